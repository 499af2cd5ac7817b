"""Wire fields that take JSON as it is: they check, never convert, and return the same value."""

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from django.core.validators import ProhibitNullCharactersValidator
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from rest_framework import serializers
from rest_framework.validators import ProhibitSurrogateCharactersValidator

from apps.text import quoted

LIMITS = {
    "max_length": "above_max_length",
    "min_length": "below_min_length",
    "max_value": "above_max_value",
    "min_value": "below_min_value",
}
PARSER_CHECKS = (ProhibitNullCharactersValidator, ProhibitSurrogateCharactersValidator)
LARGEST_INTEGER = 2**63 - 1


class _Strict(serializers.Field):
    """A field that refuses every type but its own. noun: begins the code of a passed limit."""

    default_error_messages = {"invalid_type": "Expected {expected}, not {given}."}
    types: ClassVar[tuple[type, ...]]
    expected: ClassVar[str]
    noun: ClassVar[str]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        validators: list[Any] = self.validators
        for validator in validators:
            code = getattr(validator, "code", None)
            if code in LIMITS:
                validator.code = f"{self.noun}_{LIMITS[code]}"

    def run_validation(self, data: Any = serializers.empty) -> Any:
        # Before DRF's own checks, some of which convert: CharField takes 5 for a text.
        if data is not None and data is not serializers.empty and type(data) not in self.types:
            self.fail("invalid_type", expected=self.expected, given=quoted(data))
        return super().run_validation(data)

    def to_internal_value(self, data: Any) -> Any:
        return data


class Text(_Strict, serializers.CharField):
    """A string, with its blanks at both ends."""

    types, expected, noun = (str,), "a string", "string"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)
        # The parser refused both; looking at each character again takes 50 ms a megabyte.
        self.validators = [one for one in self.validators if not isinstance(one, PARSER_CHECKS)]


class Choice(_Strict, serializers.ChoiceField):
    """One of a few strings."""

    default_error_messages = {"invalid_choice": "Expected one of {known}, not {given}."}
    types, expected, noun = (str,), "a string", "string"

    def to_internal_value(self, data: Any) -> Any:
        if data not in self.choices:
            self.fail("invalid_choice", known=", ".join(self.choices), given=quoted(data))
        return data


class Const(Choice):
    """A string that is always the same: a `type`, an `object`."""

    def __init__(self, word: str, **kwargs: Any) -> None:
        self.word = word
        super().__init__(choices=[word], **kwargs)

    def get_attribute(self, instance: Any) -> str:
        return self.word


class Whole(_Strict, serializers.IntegerField):
    """An integer that 64 bits hold; 1.0 is none."""

    types, expected, noun = (int,), "an integer", "integer"

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("min_value", -LARGEST_INTEGER)
        kwargs.setdefault("max_value", LARGEST_INTEGER)
        super().__init__(**kwargs)


class Number(_Strict, serializers.FloatField):
    """A number, with or without a fraction."""

    types, expected, noun = (int, float), "a number", "decimal"


class Flag(_Strict, serializers.BooleanField):
    types, expected, noun = (bool,), "true or false", "boolean"


class Array(_Strict, serializers.ListField):
    """An array."""

    types, expected, noun = (list,), "an array", "array"

    def to_internal_value(self, data: Any) -> Any:
        self.run_child_validation(data)
        return data


class AnyObject(_Strict):
    """An object with any keys."""

    types, expected, noun = (dict,), "an object", "object"

    def to_representation(self, value: Any) -> Any:
        return value


class AnyObjectSchema(OpenApiSerializerFieldExtension):
    target_class = AnyObject
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {}}


# No docstring: every shape without one of its own would show it in the schema.
# An object with named fields; other keys are let through, unless it is `closed`.
class Shape(serializers.Serializer):
    closed: ClassVar[bool] = False

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if data is not None and data is not serializers.empty and type(data) is not dict:
            _refuse("non_field_errors", f"Expected an object, not {quoted(data)}.", "invalid_type")
        return super().run_validation(data)

    def to_internal_value(self, data: Any) -> Any:
        super().to_internal_value(data)
        unknown = next((key for key in data if key not in self.fields), None)
        if self.closed and unknown is not None:
            _refuse(unknown, f"There is no field {quoted(unknown)} here.", "unknown_parameter")
        return data


class OneOf(AnyObject):
    """An object of one of several shapes, named by its `type`."""

    def __init__(self, shapes: Mapping[str, type[Shape]], **kwargs: Any) -> None:
        self.shapes = shapes
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> Any:
        return self.shapes[self.kind_of(data)]().run_validation(data)

    def kind_of(self, data: Mapping[str, Any]) -> str:
        """Return the `type` of an object, which is refused where it names none of the shapes."""
        try:
            self.refuse_foreign(data.get("type"))
            kind: str = Choice(choices=[*self.shapes]).run_validation(
                data.get("type", serializers.empty)
            )
        except serializers.ValidationError as error:
            raise serializers.ValidationError({"type": error.detail}) from None
        return kind

    def refuse_foreign(self, kind: Any) -> None:
        """Refuse a type of which more is to say than that it is none of these."""


class OneOfSchema(OpenApiSerializerFieldExtension):
    target_class = OneOf
    match_subclasses = True
    priority = 1

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        refs = {
            kind: auto_schema.resolve_serializer(shape, direction).ref
            for kind, shape in self.target.shapes.items()
        }
        return {
            "oneOf": list(refs.values()),
            "discriminator": {
                "propertyName": "type",
                "mapping": {kind: ref["$ref"] for kind, ref in refs.items()},
            },
        }


def _refuse(field: str, message: str, code: str) -> NoReturn:
    raise serializers.ValidationError({field: [message]}, code=code)
