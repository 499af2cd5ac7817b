"""Translate a request of the Responses API into one of chat completions."""

from collections.abc import Mapping, Sequence
from typing import Any

from apps.clients.messages import for_chat
from evalplatform.dialects.openai.messages import as_text


def chat_messages(given: str | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a response's input as the messages of a chat, without a model's earlier reasoning."""
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
    """Return the `response_format` that a `text` asks for; None where it asks for none."""
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
