"""The shapes of a response's input, tools and text format."""

import re
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from rest_framework import serializers

from apps.text import quoted
from evalplatform.dialects.kit.fields import AnyObject, Array, Const, Flag, OneOf, Shape, Text
from evalplatform.dialects.openai.messages import Content, Message


class FlatFunctionTool(Shape):
    type = Const("function")
    name = Text(max_length=64)
    description = Text(required=False, allow_null=True, allow_blank=True)
    parameters = AnyObject(required=False, allow_null=True)
    strict = Flag(required=False, allow_null=True)


class PlainFormat(Shape):
    type = Const("text")


class AnyJSONFormat(Shape):
    type = Const("json_object")


class FlatSchemaFormat(Shape):
    type = Const("json_schema")
    name = Text(max_length=64)
    schema = AnyObject()
    description = Text(required=False, allow_null=True, allow_blank=True)
    strict = Flag(required=False, allow_null=True)


class TextOptions(Shape):
    format = OneOf(
        {"text": PlainFormat, "json_object": AnyJSONFormat, "json_schema": FlatSchemaFormat},
        required=False,
        allow_null=True,
    )


# What the hosted service runs by itself; some have a date behind their name.
HOSTED_TOOLS = re.compile(
    r"(web_search|file_search|code_interpreter|mcp|computer|image_generation|local_shell|shell|"
    r"apply_patch)\w*"
)


class Tool(OneOf):
    """A tool that a model may call: a function of the caller's."""

    default_error_messages = {
        "invalid_value": "Hosted tools such as {given} are not run here: declare a function, run "
        "it yourself when the model calls it, and send its output; or put what it would find "
        "into the input."
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__({"function": FlatFunctionTool}, **kwargs)

    def refuse_foreign(self, kind: Any) -> None:
        if isinstance(kind, str) and HOSTED_TOOLS.fullmatch(kind):
            self.fail("invalid_value", given=kind)


class FunctionCall(Shape):
    type = Const("function_call")
    call_id = Text()
    name = Text()
    arguments = Text(allow_blank=True)


class FunctionCallOutput(Shape):
    type = Const("function_call_output")
    call_id = Text()
    output = Content()


class Reasoning(Shape):
    type = Const("reasoning")


class InputItem(OneOf):
    """An item of a response's input; an object with a role and no type is a message."""

    def __init__(self, **kwargs: Any) -> None:
        kinds = {
            "message": Message,
            "function_call": FunctionCall,
            "function_call_output": FunctionCallOutput,
            "reasoning": Reasoning,
        }
        super().__init__(kinds, **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value({"type": "message", **data} if "role" in data else data)


class Input(serializers.Field):
    """A response's input: a text, or an array of messages and calls."""

    default_error_messages = {"invalid_type": "Expected a string or an array, not {given}."}
    text = Text()
    items = Array(child=InputItem(), min_length=1)

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str | list):
            self.fail("invalid_type", given=quoted(data))
        return (self.text if isinstance(data, str) else self.items).run_validation(data)


class InputSchema(OpenApiSerializerFieldExtension):
    target_class = Input

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        items = auto_schema._map_serializer_field(self.target.items.child, direction)
        array = {"type": "array", "minItems": 1, "items": items}
        return {"oneOf": [{"type": "string", "minLength": 1}, array]}
