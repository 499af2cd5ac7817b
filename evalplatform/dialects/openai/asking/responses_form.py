"""How the Responses API spells what chat completions spell otherwise, and back again."""

from collections.abc import Mapping, Sequence
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from rest_framework import serializers

from apps.clients import Usage
from apps.clients.messages import for_chat
from apps.text import quoted
from evalplatform.dialects.kit.fields import AnyObject, Const, Flag, Items, OneOf, Shape, Text
from evalplatform.dialects.openai.messages import Content, Message, as_text


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


FLAT_TOOLS: dict[str, type[Shape]] = {"function": FlatFunctionTool}


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
    """An item of a response's input; what has a role and no type is a message."""

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
    """What a response answers: a text, or an array of messages and calls."""

    default_error_messages = {"invalid_type": "Expected a string or an array, not {given}."}
    text = Text()
    items = Items(child=InputItem(), min_length=1)

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


# --- to chat completions -------------------------------------------------------------------------


def chat_messages(given: str | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A response's input as the messages of a chat; what a model thought is not sent again."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[dict[str, Any]] = []
    for item in given:
        kind = item.get("type", "message")
        if kind == "message":
            messages += for_chat([item])
        elif kind == "function_call":
            # Calls of one turn stand in one message.
            if not (messages and messages[-1].get("tool_calls")):
                messages.append({"role": "assistant", "content": None, "tool_calls": []})
            function = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item["call_id"], "type": "function", "function": function}
            messages[-1]["tool_calls"].append(call)
        elif kind == "function_call_output":
            output = {"tool_call_id": item["call_id"], "content": as_text(item["output"])}
            messages.append({"role": "tool", **output})
    return messages


def chat_format(text: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The `response_format` of a `text`; None where it asks for nothing."""
    wanted = (text or {}).get("format")
    if not wanted or wanted["type"] != "json_schema":
        return wanted or None
    named = {name: value for name, value in wanted.items() if name != "type" and value is not None}
    return {"type": "json_schema", "json_schema": named}


def chat_tools(tools: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    return [
        {
            "type": "function",
            "function": {n: v for n, v in tool.items() if n != "type" and v is not None},
        }
        for tool in tools or ()
    ] or None


def chat_tool_choice(choice: Any) -> Any:
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice


# --- and back ------------------------------------------------------------------------------------


def output_items(completion: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The first choice of a completion as the output of a response. key: makes their ids unique."""
    message = completion["choices"][0]["message"]
    calls = message.get("tool_calls")
    calls = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    content, refusal = as_text(message.get("content")), message.get("refusal")
    parts: list[dict[str, Any]] = []
    if content or not (refusal or calls):
        parts.append({"type": "output_text", "text": content, "annotations": [], "logprobs": []})
    if refusal:
        parts.append({"type": "refusal", "refusal": refusal})
    items: list[dict[str, Any]] = []
    if parts:
        items.append(
            {
                "id": f"msg_{key}",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": parts,
            }
        )
    for number, call in enumerate(calls):
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        items.append(
            {
                "id": f"fc_{key}{number}",
                "type": "function_call",
                "status": "completed",
                "call_id": call.get("id"),
                "name": function.get("name"),
                "arguments": function.get("arguments"),
            }
        )
    return items


def usage_shown(completion: Mapping[str, Any]) -> dict[str, Any]:
    usage = Usage.of(completion)
    told = completion.get("usage")
    details = told.get("completion_tokens_details") if isinstance(told, dict) else None
    thought = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": thought if type(thought) is int else 0},
        "total_tokens": usage.total_tokens,
    }
