"""Show the messages that a response answers as the items of its input."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalplatform.dialects.openai.messages import as_text


def input_items(messages: Sequence[Mapping[str, Any]], key: str) -> list[dict[str, Any]]:
    """Show chat messages as input items, oldest first. key: makes the items' ids unique."""
    items = [item for message in messages for item in _items(message)]
    return [
        {"id": f"{PREFIXES[item['type']]}_{key}{number}", "status": "completed", **item}
        for number, item in enumerate(items)
    ]


PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco"}


def _items(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        call_id, output = message.get("tool_call_id"), as_text(content)
        yield {"type": "function_call_output", "call_id": call_id, "output": output}
        return
    if content:
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        show = _said if role == "assistant" else _given
        yield {"type": "message", "role": role, "content": [show(part) for part in parts]}
    for call in message.get("tool_calls") or ():
        function = call["function"]
        yield {
            "type": "function_call",
            "call_id": call["id"],
            "name": function["name"],
            "arguments": function["arguments"],
        }


def _said(part: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": as_text(part), "annotations": [], "logprobs": []}


def _given(part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "image_url":
        image = part["image_url"]
        return {
            "type": "input_image",
            "image_url": image["url"],
            "detail": image.get("detail") or "auto",
            "file_id": None,
        }
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": part["input_audio"]}
    return {"type": "input_text", "text": as_text(part)}
