"""Tell good replies of model servers from bad ones, and find what an error says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from apps.strict_json import BadJSON, parse_json


def _is_completion(body: Any) -> bool:
    choices = body.get("choices") if isinstance(body, dict) else None
    return (
        isinstance(choices, list)
        and bool(choices)
        and all(
            isinstance(choice, dict) and isinstance(choice.get("message"), dict)
            for choice in choices
        )
    )


def _is_embedding(body: Any) -> bool:
    data = body.get("data") if isinstance(body, dict) else None
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(one, dict) and _is_vector(one.get("embedding")) for one in data)
    )


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(x) in {int, float} for x in value)


@dataclass(frozen=True)
class Service:
    """Something that an endpoint does: where, and what its reply must be."""

    path: tuple[str, ...]
    fits: Callable[[Any], bool]
    reply: str
    lacks: str


CHAT = Service(
    ("chat", "completions"),
    _is_completion,
    "a chat completion",
    "it has no choice with a message",
)
EMBEDDINGS = Service(("embeddings",), _is_embedding, "a list of embeddings", "it has no vectors")


def upstream_message(content: bytes) -> str:
    """Return the message of an error's body, in whichever shape it has, else its text."""
    try:
        message = error_text(parse_json(content))
    except BadJSON:
        message = ""
    return message or content.decode("utf-8", "replace")


def error_text(body: Any) -> str:
    for name in ("error", "message", "detail"):
        if isinstance(body, dict) and name in body:
            body = body[name]
    if isinstance(body, dict | list):
        return ""
    return str(body) if body else ""
