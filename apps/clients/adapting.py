"""A client that learns what its server refuses of a request, and asks without it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from apps.clients.base import CallFailed, Reply
from apps.clients.chat import ChatClient
from apps.clients.quirks import (
    FORMAT,
    adapt,
    format_quirk,
    formats_among,
    is_of_the_row,
    names_a_param,
    of_this_value,
    refused_in,
    small_request,
    suspects,
)

ROUNDS = 8  # of one request, each of which has learned something
WORDLESS_STATUSES = frozenset({400, 422})  # of refusals whose reason is worth a probe
PROBED = "it refuses a small request with this and takes one without"


@dataclass(frozen=True)
class Lesson:
    """A quirk of a model of a server that was learned, and the server's words for it."""

    model: str
    quirk: str
    words: str


@dataclass
class Lessons:
    """The quirks of one server's models that are known here, by the model's name there.

    told: hears of each that is learned. Belongs to one event loop.
    """

    quirks: dict[str, list[str]] = field(default_factory=dict)
    told: Callable[[Lesson], None] = lambda lesson: None
    probed: dict[str, set[str]] = field(default_factory=dict)
    probing: dict[str, asyncio.Lock] = field(default_factory=dict)

    def of(self, model: str) -> Collection[str]:
        return self.quirks.get(model, ())

    def learn(self, model: str, quirks: Iterable[str], words: str) -> None:
        for quirk in quirks:
            if quirk not in self.of(model):
                self.quirks.setdefault(model, []).append(quirk)
                self.told(Lesson(model, quirk, words))


class _Form:
    """A request in the form that its server takes; made at the moment when it is sent.

    doubted: quirks that this request alone is made without, until it is known to help.
    """

    # Of the class, since one is made for every call and hardly any has something to say.
    doubted: Collection[str] = ()
    without: Collection[str] = ()
    notes: Collection[str] = ()
    said: str | None = None
    words = ""
    rounds = 0

    def __init__(self, request: dict[str, Any], lessons: Lessons, keeps_format: bool) -> None:
        self.request = self.sent = request
        self.lessons = lessons
        self.keeps_format = keeps_format

    def __call__(self) -> dict[str, Any]:
        if not (self.lessons.quirks or self.doubted):
            return self.request
        if lacking := self._lacking():
            # Known by now of this form of reply, which whoever asks does without: no call is made.
            failure = CallFailed("model_rejected", f"The model server lacks {lacking[0]}.")
            failure.lacks = lacking
            raise failure
        self.without = self._quirks()
        if self.without:
            self.sent, self.notes = adapt(self.request, self.without)
        return self.sent

    def mend(self, failure: CallFailed) -> bool:
        """Tell whether a request that was refused has another form now, by the refusal's words."""
        if failure.refusal is None or self.rounds == ROUNDS:
            return False
        self.rounds += 1
        self.words = self.words or failure.message
        if lacking := self._lacking():
            failure.lacks = lacking
            return False
        if self.has_more_to_leave_out():
            return True
        # Said again of another request it is no word about what was left out.
        told = refused_in(self.sent, failure.refusal) if failure.refusal != self.said else []
        self.said = failure.refusal
        return self.doubt([one for one in told if one not in self.without], failure)

    def doubt(self, quirks: Iterable[str], failure: CallFailed) -> bool:
        """Leave these out from now on; False where there is nothing that we may leave out."""
        found = list(quirks)
        if self.keeps_format:
            failure.lacks = tuple(formats_among(found))
            found = [quirk for quirk in found if not quirk.startswith(FORMAT)]
        self.doubted = [*self.doubted, *found]
        return bool(found)

    def has_more_to_leave_out(self) -> bool:
        """Tell whether others have learned something since this was sent."""
        return bool(set(self._quirks()) - set(self.without))

    def was_taken(self) -> None:
        """Share what was left out in doubt: it helped."""
        if self.doubted:
            self.lessons.learn(self.request["model"], self.doubted, self.words)
            self.doubted = ()

    def _lacking(self) -> tuple[str, ...]:
        """Return the form of reply that this keeps, where it is known to be refused."""
        if not self.keeps_format or FORMAT not in self.request:
            return ()
        quirk = format_quirk(self.request[FORMAT])
        known = quirk in self.lessons.of(self.request["model"])
        return tuple(formats_among([quirk])) if known else ()

    def _quirks(self) -> Collection[str]:
        known = self.lessons.of(self.request["model"])
        if not (known or self.doubted):
            return ()
        quirks = dict.fromkeys([*known, *self.doubted])
        return [one for one in quirks if not (self.keeps_format and one.startswith(FORMAT))]


class AdaptingClient:
    """Asks as ChatClient does; a form that the server refuses is not sent to it again.

    A refusal teaches only what its words say of this request, once the request without it was
    taken, or what a small request shows that has nothing of the row. All other refusals stay with
    the row whose they are.
    """

    def __init__(self, client: ChatClient, lessons: Lessons) -> None:
        self._client = client
        self.lessons = lessons

    async def complete(self, request: dict[str, Any], *, keeps_format: bool = False) -> Reply:
        """Send a chat request and return the reply; raises CallFailed, or Stopped.

        keeps_format: a response_format that is refused is not left out; the failure's `lacks` then
        names it, for who asked has another way to ask.
        """
        form = _Form(request, self.lessons, keeps_format)
        try:
            reply = await self._client.complete(form, mend=form.mend)
        except CallFailed as failure:
            if failure.refusal is None or failure.lacks:
                raise
            reply = await self._ask_after_a_probe(form, failure)
        form.was_taken()
        return replace(reply, notes=(*reply.notes, *form.notes)) if form.notes else reply

    async def stream(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Send `request` and yield the answer's chunks as they come; raises CallFailed."""
        form = _Form(request, self.lessons, False)
        while True:
            try:
                async for chunk in self._client.stream(form()):
                    form.was_taken()
                    yield chunk
                return
            except CallFailed as failure:
                # Whoever is refused is so before the first chunk.
                if not form.mend(failure):
                    raise

    async def embed(self, request: dict[str, Any]) -> Reply:
        """Send an embeddings request and return the reply; raises CallFailed, or Stopped."""
        return await self._client.embed(request)

    async def list_models(self) -> list[str]:
        """Return the names of the models that the server lists; raises CallFailed."""
        return await self._client.list_models()

    async def close(self) -> None:
        await self._client.close()

    async def _ask_after_a_probe(self, form: _Form, failure: CallFailed) -> Reply:
        """Ask in the form that a probe leaves; raises the failure where it finds nothing."""
        lock = self.lessons.probing.setdefault(form.request["model"], asyncio.Lock())
        async with lock:
            # Another may have probed while this waited.
            if not form.has_more_to_leave_out():
                found = await self._probe(form.sent, failure)
                if not form.doubt(found, failure):
                    raise failure
        return await self._client.complete(
            form, mend=form.mend, made=failure.calls, spent=failure.usage
        )

    async def _probe(self, sent: Mapping[str, Any], failure: CallFailed) -> list[str]:
        """Find by small requests which of what was sent the server refuses, whatever the row is.

        Once for each model and form: the calls count with those of the row that made them
        necessary.
        """
        model, doubted = sent["model"], suspects(sent)
        probed = self.lessons.probed.setdefault(model, set())
        if (
            failure.status not in WORDLESS_STATUSES
            or is_of_the_row(failure.refusal or "")
            # Not refused, or its words would have been read: its value is wrong, which is no quirk.
            or names_a_param(sent, failure.refusal or "")
            or not set(doubted) - probed
        ):
            # Of a form of reply that was found to be refused each who asks for it hears.
            known = self.lessons.of(model)
            return [one for one in doubted if one in known]
        try:
            found = await self._refused_among(sent, doubted, failure)
        finally:
            probed |= set(doubted)
        self.lessons.learn(model, found, f"{failure.message} ({PROBED})")
        return found

    async def _refused_among(
        self, sent: Mapping[str, Any], doubted: list[str], failure: CallFailed
    ) -> list[str]:
        if not await self._is_refused(sent, doubted, failure):
            return []  # the row's text was refused
        if await self._is_refused(sent, (), failure):
            return []  # whatever is asked is refused
        found = doubted
        if len(doubted) > 1:
            found = [one for one in doubted if await self._is_refused(sent, (one,), failure)]
        return [of_this_value(sent, one) for one in found]

    async def _is_refused(
        self, sent: Mapping[str, Any], quirks: Collection[str], failure: CallFailed
    ) -> bool:
        """Send a small request; what it takes is added to the failure of the row."""
        small = small_request(sent, quirks)
        try:
            reply = await self._client.complete(
                lambda: small, made=failure.calls, spent=failure.usage
            )
        except CallFailed as refused:
            failure.calls, failure.usage = refused.calls, refused.usage
            if refused.refusal is None:
                raise failure from None
            return True
        failure.calls, failure.usage = reply.calls, reply.usage
        return False
