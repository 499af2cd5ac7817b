"""Stream a response as the vendor's events while its answer comes in."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from apps.clients import CallFailed
from apps.clients.streams import Assembly
from apps.inference.live_calls import Chunk
from evalplatform.dialects.openai.asking.response_output import output_items
from evalplatform.dialects.openai.asking.viewset import event, failure_shown

Shown = Callable[[Mapping[str, Any] | None], dict[str, Any]]


def response_events(chunks: Iterator[Chunk], shown: Shown, key: str) -> Iterator[bytes]:
    """Yield a response's events: its text piece by piece, calls of functions once they are whole.

    shown: makes the response of a completion, or of None while it comes in. key: as in
    output_items.
    """
    number = -1

    def event_of(kind: str, **fields: Any) -> bytes:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number, **fields}, kind)

    yield event_of("response.created", response=shown(None))
    yield event_of("response.in_progress", response=shown(None))
    assembly = Assembly()
    position = {"item_id": f"msg_{key}", "output_index": 0, "content_index": 0}
    has_text = False
    try:
        for chunk in chunks:
            assembly.add(chunk)
            if text := _text_of(chunk):
                if not has_text:
                    has_text = True
                    yield from _opened(event_of, position)
                yield event_of("response.output_text.delta", **position, delta=text, logprobs=[])
    except CallFailed as failure:
        fault = failure_shown(failure)["error"]
        code, message = fault["code"], fault["message"]
        yield event_of("error", code=code, message=message, param=None)
        return
    completion = assembly.completion()
    for index, item in enumerate(output_items(completion, key)):
        if item["type"] == "message" and has_text:
            part = item["content"][0]
            yield event_of("response.output_text.done", **position, text=part["text"], logprobs=[])
            yield event_of("response.content_part.done", **position, part=part)
        else:
            yield event_of("response.output_item.added", output_index=index, item=item)
        yield event_of("response.output_item.done", output_index=index, item=item)
    response = shown(completion)
    yield event_of(f"response.{response['status']}", response=response)


def _opened(event_of: Callable[..., bytes], position: Mapping[str, Any]) -> Iterator[bytes]:
    item = {
        "id": position["item_id"],
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    yield event_of("response.output_item.added", output_index=0, item=item)
    yield event_of("response.content_part.added", **position, part=part)


def _text_of(chunk: Chunk) -> str:
    """Return the text that a chunk adds to the first choice."""
    for choice in chunk.get("choices") or ():
        if choice.get("index", 0) == 0:
            content = (choice.get("delta") or {}).get("content")
            return content if isinstance(content, str) else ""
    return ""
