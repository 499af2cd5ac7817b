"""Messages as chat servers read them, from the forms in which people write their parts; pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from apps.strict_json import BadJSON, parse_json

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def for_chat(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Role and content of each message; one part alone becomes an array of one.

    Parts: a plain text, input_text and output_text, input_image, input_audio; those that are a
    chat server's own (text, image_url) stay as they are.
    """
    return [
        {"role": message["role"], "content": _content(message.get("content"))}
        for message in messages
    ]


def messages_of(value: Any) -> list[dict[str, Any]]:
    """The messages that a text stands for: a JSON array of messages as such, another as a user's.

    None is an empty text. Raises ValueError for what is no text.
    Source: docs/contracts/spice.md, section 10.2.
    """
    text = "" if value is None else value
    if not isinstance(text, str):
        raise ValueError(f"{value!r} is neither a text nor a list of messages")
    return array_in(text, is_message) or [{"role": "user", "content": text}]


def array_in(text: str, fits: Callable[[Any], bool]) -> list[Any]:
    """The JSON array that a text is, where every element of it fits; else an empty list."""
    if not text.lstrip().startswith("["):
        return []
    try:
        array = parse_json(text)
    except BadJSON:
        return []
    return array if all(map(fits, array)) else []


def is_message(value: Any) -> bool:
    return isinstance(value, dict) and value.get("role") in ROLES


def _content(content: Any) -> Any:
    if content is None or isinstance(content, str):
        return content
    return [_part(part) for part in (content if isinstance(content, list) else [content])]


def _part(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type")
    if kind in {"input_text", "output_text"}:
        return {"type": "text", "text": part["text"]}
    if kind == "input_image":
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": part.get("image_url"), **detail}}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": part["input_audio"]}
    return part
