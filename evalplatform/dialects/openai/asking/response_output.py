"""Show a chat completion as the output and the usage of a response."""

from collections.abc import Mapping
from typing import Any

from apps.clients import Usage
from evalplatform.dialects.openai.messages import as_text


def output_items(completion: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Show the first choice of a completion as a response's output.

    key: makes the items' ids unique.
    """
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
    sent = completion.get("usage")
    sent = sent if isinstance(sent, dict) else {}
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            # contract: openai, additions: current clients demand it in strict mode
            "cache_write_tokens": _detail(sent, "prompt_tokens_details", "cache_write_tokens"),
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {
            "reasoning_tokens": _detail(sent, "completion_tokens_details", "reasoning_tokens")
        },
        "total_tokens": usage.total_tokens,
    }


def _detail(usage: Mapping[str, Any], details: str, name: str) -> int:
    """Return a count of a usage's details, 0 where it is unknown."""
    counts = usage.get(details)
    count = counts.get(name) if isinstance(counts, dict) else None
    return count if type(count) is int else 0
