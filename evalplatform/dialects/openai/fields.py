"""Wire fields that several of the vendor's objects have: times, metadata, kinds."""

from collections.abc import Mapping
from typing import Any

from drf_spectacular.extensions import (
    OpenApiSerializerFieldExtension,
)
from rest_framework import serializers
from rest_framework.exceptions import ValidationError as FieldError

from apps.text import quoted
from evalplatform.dialects.kit.fields import AnyObject, OneOf, Shape, Text
from evalplatform.dialects.kit.json import RawJSON


class UnixTime(serializers.IntegerField):
    """A time in whole seconds since 1970."""

    def to_representation(self, value: Any) -> int:
        return int(value.timestamp())


class Metadata(AnyObject):
    """At most 16 texts by name, stored as the JSON text of an object."""

    PAIRS, KEY_LENGTH, VALUE_LENGTH = 16, 64, 512
    default_error_messages = {
        "object_above_max_properties": f"At most {PAIRS} pairs fit.",
        "string_above_max_length": f"A key has at most {KEY_LENGTH} characters, unlike {{name}}.",
    }

    def to_internal_value(self, data: Any) -> Any:
        if len(data) > self.PAIRS:
            self.fail("object_above_max_properties")
        text = Text(max_length=self.VALUE_LENGTH, allow_blank=True)
        for key, value in data.items():
            if len(key) > self.KEY_LENGTH:
                self.fail("string_above_max_length", name=quoted(key))
            try:
                text.run_validation(value)
            except FieldError as error:
                raise FieldError({key: error.detail}) from None
        return data

    def to_representation(self, value: str) -> RawJSON:
        return RawJSON(value)


class NativeKinds(OneOf):
    """An object of one of several shapes; Azure's own kinds are refused with what to use instead.

    instead: words that end the message, as in `send the rows as file_content`.
    """

    default_error_messages = {
        "invalid_value": "{given} is a kind of Azure's own, which is not run here: {instead}."
    }

    def __init__(self, shapes: Mapping[str, type[Shape]], *, instead: str, **kwargs: Any) -> None:
        self.instead = instead
        super().__init__(shapes, **kwargs)

    def refuse_foreign(self, kind: Any) -> None:
        if isinstance(kind, str) and kind.startswith("azure_"):
            self.fail("invalid_value", given=quoted(kind), instead=self.instead)


class MetadataSchema(OpenApiSerializerFieldExtension):
    target_class = Metadata
    priority = 1

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        return {
            "type": "object",
            "additionalProperties": {"type": "string", "maxLength": Metadata.VALUE_LENGTH},
            "maxProperties": Metadata.PAIRS,
        }
