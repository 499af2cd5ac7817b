"""Models that need no network and no key: the floors that a real model should beat."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar
from uuid import uuid4

from apps.clients.base import CallFailed, Reply, Usage
from apps.clients.bm25 import Bm25Index
from apps.clients.streams import chunks_of

Example = tuple[str, str]  # a text and its label


class BuiltIn:
    """A client whose answer is computed from the last user message by `answer`."""

    kind: ClassVar[str]
    learns: ClassVar[bool] = True  # whether it is made of labelled examples

    def answer(self, prompt: str) -> str:
        raise NotImplementedError

    async def complete(self, request: dict[str, Any], *, keeps_format: bool = False) -> Reply:
        content = self.answer(last_user_text(request.get("messages")))
        return Reply(
            body={
                "id": f"chatcmpl-{uuid4().hex}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": request.get("model") or f"builtin/{self.kind}",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": content, "refusal": None},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
            },
            usage=Usage(),
            calls=1,
        )

    async def embed(self, request: dict[str, Any]) -> Reply:
        raise CallFailed("model_rejected", "A built-in model makes no embeddings.")

    async def stream(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        for chunk in chunks_of((await self.complete(request)).body):
            yield chunk

    async def close(self) -> None:
        return None


class Echo(BuiltIn):
    """Repeats the last user message."""

    kind = "echo"
    learns = False

    def answer(self, prompt: str) -> str:
        return prompt


class Majority(BuiltIn):
    """Answers the most frequent label, of equally frequent ones the one seen first."""

    kind = "majority"

    def __init__(self, examples: Sequence[Example]) -> None:
        if not examples:
            raise ValueError("A model that learns needs at least one labelled example.")
        counts = Counter(label for _, label in examples)
        self.label = max(counts, key=counts.__getitem__)

    def answer(self, prompt: str) -> str:
        return self.label


class Nearest(Majority):
    """Answers the label of the nearest example by BM25, the majority's when none is near."""

    kind = "nearest"

    def __init__(self, examples: Sequence[Example]) -> None:
        super().__init__(examples)
        self._labels = [label for _, label in examples]
        self._index = Bm25Index.build([text for text, _ in examples])

    def answer(self, prompt: str) -> str:
        nearest = self._index.nearest(prompt, 1)
        if not nearest or nearest[0][1] <= 0:
            return self.label
        return self._labels[nearest[0][0]]


BUILT_IN: dict[str, type[BuiltIn]] = {model.kind: model for model in (Echo, Majority, Nearest)}


def is_built_in(address: Mapping[str, Any]) -> bool:
    """Return whether an address, as a run keeps it, is of a model here: no server, no price."""
    return "builtin" in address


def last_user_text(messages: Any) -> str:
    """The text of the last message whose role is user, "" when there is none.

    Of a content in parts the texts, one a line; images and sounds say nothing here.
    """
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            parts = content if isinstance(content, list) else [content]
            texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
            return "\n".join(text for text in texts if isinstance(text, str))
    return ""
