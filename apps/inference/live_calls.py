"""Ask a model while a caller waits for the answer, and store the answer where that is wanted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from threading import BoundedSemaphore
from typing import Any, Self, TypeVar

from django.db import connection
from django.utils import timezone

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.clients import (
    CallFailed,
    Client,
    Preset,
    RetryPolicy,
    Usage,
)
from apps.clients.replies import vectors_of
from apps.clients.streams import Assembly
from apps.ids import new_id
from apps.inference.attached_models import Models
from apps.inference.learned_quirks import Learned, lessons_of, remember
from apps.inference.live_limits import LiveLimiter
from apps.inference.served_models import FoundModel, find_embedder, find_model
from apps.inference.server_settings import connect
from apps.inference.stored_completions import Keep, store_completion

T = TypeVar("T")
Chunk = dict[str, Any]

# Who waits retries by themselves, and sooner than we could tell them why to wait.
ONE_TRY = RetryPolicy(
    connecting_seconds=0, answered_tries=1, invalid_tries=1, call_seconds=600, connect_seconds=10
)
# Of one web process, which has three times as many threads: pages are answered as well.
CALLS_AT_ONCE = 32
_calls_at_once = BoundedSemaphore(CALLS_AT_ONCE)


class _OpenCall:
    """The client of a model, and an event loop for it while it is open."""

    def __init__(self, found: FoundModel) -> None:
        self._learned: list[Learned] = []
        self._limiter = LiveLimiter(found.endpoint.pk) if found.endpoint else None
        self._client = _connect(found, self._learned.append, self._limiter)
        self._runner: asyncio.Runner | None = None

    def _open(self) -> Self:
        if self._limiter is not None:
            self._limiter.admit()
        if not _calls_at_once.acquire(blocking=False):
            raise CallFailed(
                "model_rate_limited",
                f"{CALLS_AT_ONCE} requests wait for models already.",
                status=429,
            )
        self._runner = asyncio.Runner()
        # A connection of the pool is not held while somebody waits for a model.
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
        return self

    def _wait(self, answer: Coroutine[Any, Any, T]) -> T:
        assert self._runner is not None
        return self._runner.run(answer)

    def close(self) -> None:
        """Hang up, whatever has come so far."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            try:
                runner.run(self._client.close())
                runner.close()
            finally:
                _calls_at_once.release()
            remember(self._learned)
            if self._limiter is not None:
                self._limiter.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class LiveCall(_OpenCall):
    """A chat request on its way: `answer()` waits for it all, iterating gives it in chunks.

    model: as callers name it. request: the messages and parameters, sent on as they are. keep:
    what to store with a complete answer, None for nothing. id, created_at: the answer's.
    A call is made once; a caller that does not iterate to the end closes it.
    Raises UnknownModel; the answers raise CallFailed.
    """

    def __init__(
        self, actor: Actor, *, model: str, request: Mapping[str, Any], keep: Keep | None = None
    ) -> None:
        account = actor.require(Action.EDIT)
        found = find_model(account.pk, model)
        self.id, self.created_at = new_id(), timezone.now()
        self.model = model
        self._actor, self._keep = actor, keep
        asked = {**request, "model": found.address.get("upstream", model)}
        self._request = Preset.of(found.address).apply(asked)
        super().__init__(found)
        self._assembly = Assembly()

    def answer(self) -> dict[str, Any]:
        """Return the chat completion, once it is stored where it is to be kept."""
        with self._open():
            reply = self._wait(self._client.complete(self._request))
        completion = reply.body
        if reply.notes:
            completion["warning"] = " ".join(reply.notes)
        self._store(completion)
        return completion

    def begin(self) -> Iterator[Chunk]:
        """Return the answer's chunks, once the first has come; the whole is stored at the end."""
        self._open()
        try:
            chunks = self._client.stream(self._request)
            first = self._wait(_next(chunks))
        except BaseException:
            self.close()
            raise
        return self._going(first, chunks)

    def _going(self, chunk: Chunk | None, chunks: AsyncIterator[Chunk]) -> Iterator[Chunk]:
        with self:
            while chunk is not None:
                self._assembly.add(chunk)
                if self._assembly.size > ONE_TRY.reply_bytes:
                    raise CallFailed("model_reply_too_large", "The reply grows without end.")
                yield chunk
                chunk = self._wait(_next(chunks))
        if not self._assembly.is_complete:
            raise CallFailed("model_unreachable", "The answer broke off.")
        self._store(self._assembly.completion())

    def _store(self, completion: dict[str, Any]) -> None:
        if self._keep is not None:
            store_completion(
                self._actor,
                self._keep,
                model=self.model,
                completion=completion,
                pk=self.id,
                created_at=self.created_at,
            )


class EmbeddingCall(_OpenCall):
    """An embeddings request on its way.

    model: as callers name it. request: `input`, a list of texts or of lists of token numbers, and
    parameters, sent on as they are. Raises UnknownModel; the answer raises CallFailed.
    """

    def __init__(self, actor: Actor, *, model: str, request: Mapping[str, Any]) -> None:
        account = actor.require(Action.EDIT)
        found = find_embedder(account.pk, model)
        super().__init__(found)
        self._request = {**request, "model": found.address["upstream"]}

    def answer(self) -> tuple[list[list[float]], Usage]:
        """Return a vector for each text, in their order, and what the server counted."""
        with self._open():
            reply = self._wait(self._client.embed(self._request))
        return vectors_of(reply.body, len(self._request["input"])), reply.usage


async def _next(chunks: AsyncIterator[Chunk]) -> Chunk | None:
    return await anext(chunks, None)


def _connect(
    found: FoundModel, told: Callable[[Learned], None], limiter: LiveLimiter | None
) -> Client:
    if found.endpoint is None or limiter is None:
        return Models([found.address]).client(found.address)
    known = lessons_of([found.endpoint.pk], told)
    return connect(found.endpoint, limiter, ONE_TRY, known[found.endpoint.pk])
