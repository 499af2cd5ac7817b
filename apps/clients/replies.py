"""Tell good replies of model servers from bad ones, and find what an error says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from apps.clients.base import (
    CONTENT_FILTER,
    DENIALS,
    DENIED,
    LENGTH,
    CallFailed,
    ToldFailure,
)
from apps.clients.lenient_json import read_leniently
from apps.clients.quirks import words_of
from apps.clients.tidying import text_of
from apps.strict_json import BadJSON, parse_json

UNPACKED_BYTES = 1024 * 1024  # of an error's body


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


# The words of chat servers for how a choice ended, in small letters and with underscores. The
# vendor has only `length` and `content_filter`; the others are those of gateways and of servers
# that speak like it.
BROKEN = {"error", "network_error", "server_error", "insufficient_system_resource"}
FILTERED = {"content_filter", "sensitive", "safety", "recitation", "prohibited_content"}
CUT = {"length", "max_tokens", "model_context_window_exceeded"}
REFUSALS = {408: "model_timeout", 429: "model_rate_limited"} | dict.fromkeys(DENIALS, DENIED)
REJECTED = "model_rejected"
FINAL = (REJECTED, DENIED)
ANSWERS = ("tool_calls", "function_call", "refusal", "audio", "images")  # that are no text


def told_failure(completion: Mapping[str, Any]) -> ToldFailure | None:
    """Find the failure that a chat completion, or a chunk of one, tells; None of an answer.

    An answer that was cut or filtered after it had begun is an answer.
    Source: docs/contracts/openai.md, section 10; OpenRouter's reference of errors.
    """
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return None
    message = choice.get("message") or choice.get("delta")
    is_empty = not (isinstance(message, dict) and _says_something(message))
    ends = {_word(choice.get(name)) for name in ("finish_reason", "native_finish_reason")}
    fault = choice.get("error") or completion.get("error")
    if ends & BROKEN or (fault and is_empty):
        reason = error_text(fault) or f"it ended with {' and '.join(sorted(filter(None, ends)))}"
        status = _status_of(fault)
        code = refusal_code(status) if status else "model_server_error"
        return ToldFailure(code, f"The model gave up: {reason}", status)
    if is_empty and any(map(_is_filtered, ends)):
        return ToldFailure(CONTENT_FILTER, "A content filter kept the whole answer back.")
    if is_empty and ends & CUT:
        return ToldFailure(LENGTH, "The answer reached its limit of tokens before its first word.")
    return None


def refusal_code(status: int) -> str:
    """Return the code of a refusal with this status; of FINAL ones none tries again."""
    return REFUSALS.get(status) or ("model_server_error" if status >= 500 else REJECTED)


def status_in(body: Any) -> int | None:
    """Return the status of a refusal that a gateway tells in a body with another status."""
    return _status_of(body.get("error")) if isinstance(body, dict) else None


def _status_of(fault: Any) -> int | None:
    code = fault.get("code") if isinstance(fault, dict) else None
    return code if type(code) is int and 400 <= code < 600 else None


def stopped_by(completion: Mapping[str, Any]) -> str:
    """Return content_filter or length where that ended the first choice, else the empty text."""
    reason = _word(completion["choices"][0].get("finish_reason"))
    if reason in CUT:
        return LENGTH
    return CONTENT_FILTER if _is_filtered(reason) else ""


def _is_filtered(reason: str) -> bool:
    return reason.partition(":")[0] in FILTERED


def _word(reason: Any) -> str:
    return reason.lower().replace("-", "_") if isinstance(reason, str) else ""


def _says_something(message: Mapping[str, Any]) -> bool:
    return bool(text_of(message.get("content")).strip()) or any(map(message.get, ANSWERS))


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


class BadReply(Exception):
    """A reply that is not one; its text says why. is_final: asking again would not help."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


def read_body(content: bytes, limit: int, coding: str = "") -> tuple[Any, tuple[str, ...]]:
    """Read a reply, leniently where it must be; return it, and a sentence on what was cleaned.

    limit: the most bytes that it may have. coding: what it is packed in, where we cannot unpack
    that. Raises BadReply.
    """
    try:
        return parse_json(content), ()
    except BadJSON as error:
        # It is paid for: only what says nothing is thrown away.
        if coding:
            raise BadReply(
                f"The reply is packed in {coding}, although none was asked for.", is_final=True
            ) from None
        try:
            body, cleaned = read_leniently(content, limit)
        except BadJSON:
            raise BadReply(f"The reply is not JSON: {error}") from None
    return body, (f"The reply was cleaned of {cleaned}.",) if cleaned else ()


def vectors_of(body: dict[str, Any], texts: int) -> list[list[float]]:
    """Return the vectors of a reply in the order of the texts; raises CallFailed if some lack.

    texts: how many were sent. A server may answer in any order.
    """
    vectors = sorted(body["data"], key=lambda one: one.get("index", 0))
    if len(vectors) != texts:
        raise CallFailed(
            "model_reply_invalid",
            f"{texts} texts were sent, and {len(vectors)} vectors came back.",
        )
    return [one["embedding"] for one in vectors]


def upstream_message(content: bytes) -> str:
    """Return the message of an error's body, in whichever shape it has, else its text."""
    try:
        message = error_text(read_error(content))
    except BadJSON:
        message = ""
    return message or content.decode("utf-8", "replace")


def refusal_words(content: bytes) -> str:
    """Return what an error's body says, see quirks.words_of; its text where it is no JSON."""
    try:
        return words_of(read_leniently(content, UNPACKED_BYTES)[0])
    except BadJSON:
        return content.decode("utf-8", "replace").lower()


def model_names(body: Any) -> list[str] | None:
    """Return the names in a list of models; None for what is none."""
    data = body.get("data") if isinstance(body, dict) else body
    if not isinstance(data, list):
        return None
    found = [one.get("id") for one in data if isinstance(one, dict)]
    return [name for name in found if isinstance(name, str)]


def read_error(content: bytes) -> Any:
    """Read an error's body, of a list of them the first. Raises BadJSON."""
    body = read_leniently(content, UNPACKED_BYTES)[0]
    return body[0] if isinstance(body, list) and body else body


def error_text(body: Any) -> str:
    for name in ("error", "message", "detail"):
        if isinstance(body, dict) and name in body:
            body = body[name]
    if isinstance(body, dict | list):
        return ""
    return str(body) if body else ""
