"""Answers that come in pieces: read them off the wire, put them together, take one apart; pure."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

END = b"[DONE]"
# Joined over the pieces of an answer; of everything else in them the last word counts.
TEXTS = ("content", "refusal", "reasoning", "reasoning_content")


class EventTooLong(Exception):
    """A server sends one event without end."""


async def read_events(pieces: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """The data of each event of a stream, the closing one included.

    Chat servers write an event's data in one line. Raises EventTooLong beyond `limit` bytes.
    Source: the WHATWG's HTML standard, section 9.2.6.
    """
    held = b""
    async for piece in pieces:
        *lines, held = (held + piece).split(b"\n")
        if len(held) > limit:
            raise EventTooLong
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
    if held.startswith(b"data:"):
        yield held[5:].strip()


def is_chunk(value: Any) -> bool:
    """Return whether this is a piece of a chat completion; one without choices tells its cost."""
    choices = (value.get("choices") or []) if isinstance(value, dict) else None
    return isinstance(choices, list) and all(
        isinstance(choice, dict) and isinstance(choice.get("delta") or {}, dict)
        for choice in choices
    )


def chunks_of(completion: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A whole chat completion as the chunks that a server would have sent of it."""
    head = {
        "id": completion.get("id"),
        "object": "chat.completion.chunk",
        "created": completion.get("created"),
        "model": completion.get("model"),
    }
    for position, choice in enumerate(completion["choices"]):
        index, delta = choice.get("index", position), dict(choice["message"])
        if calls := delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": at, **call} for at, call in enumerate(calls)]
        said = {"index": index, "delta": delta, "finish_reason": None}
        ended = {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}
        yield {**head, "choices": [said]}
        yield {**head, "choices": [ended]}


class Assembly:
    """Puts chunks (see is_chunk) together to the chat completion that they are pieces of."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self.size = 0  # characters so far

    def add(self, chunk: Mapping[str, Any]) -> None:
        self._head.update(
            {name: value for name, value in chunk.items() if name != "choices" and value}
        )
        for choice in chunk.get("choices") or ():
            self._add_choice(choice)

    @property
    def is_complete(self) -> bool:
        """Tell whether every choice that was begun has come to its end."""
        return bool(self._choices) and all(
            choice["finish_reason"] for choice in self._choices.values()
        )

    def completion(self) -> dict[str, Any]:
        choices = [self._choices[index] for index in sorted(self._choices)]
        return {**self._head, "object": "chat.completion", "choices": choices}

    def _add_choice(self, piece: Mapping[str, Any]) -> None:
        index = piece.get("index")
        index = index if isinstance(index, int) else 0
        message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
        empty = {"index": index, "message": message, "finish_reason": None}
        choice = self._choices.setdefault(index, empty)
        if piece.get("finish_reason"):
            choice["finish_reason"] = piece["finish_reason"]
        message = choice["message"]
        for name, value in (piece.get("delta") or {}).items():
            if name in TEXTS:
                if isinstance(value, str):
                    self.size += len(value)
                    message[name] = (message.get(name) or "") + value
            elif name == "tool_calls":
                if isinstance(value, list) and value:
                    self._add_calls(message.setdefault("tool_calls", []), value)
            elif value is not None:
                message[name] = value

    def _add_calls(self, calls: list[dict[str, Any]], pieces: list[Any]) -> None:
        for piece in pieces:
            if not isinstance(piece, Mapping):
                continue
            index = piece.get("index", len(calls))
            # A call is named by its index; one that skips some is the next.
            if not (isinstance(index, int) and 0 <= index < len(calls)):
                index = len(calls)
                calls.append({"function": {"name": "", "arguments": ""}})
            call, function = calls[index], piece.get("function")
            call.update({n: v for n, v in piece.items() if n not in {"index", "function"} and v})
            for name, value in function.items() if isinstance(function, Mapping) else ():
                if isinstance(value, str):
                    self.size += len(value)
                    call["function"][name] = call["function"].get(name, "") + value
