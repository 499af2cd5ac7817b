"""Asks an OpenAI-compatible chat endpoint over HTTP, patiently and within bounds."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Never

import orjson
from yarl import URL

from apps.clients.addresses import AddressRefused, check_url
from apps.clients.base import (
    DENIALS,
    NO_USAGE,
    WORDLESS,
    CallFailed,
    GivenUp,
    Limiter,
    Refusal,
    Reply,
    Stopped,
    ToldFailure,
    Usage,
)
from apps.clients.exchanges import Answer, Bounds
from apps.clients.extras import NO_EXTRAS, Extras
from apps.clients.failures import TOO_MANY, Failures
from apps.clients.faults import HttpFault
from apps.clients.http_pool import HttpPool
from apps.clients.lenient_json import read_leniently
from apps.clients.rate_limits import read_remaining
from apps.clients.replies import (
    CHAT,
    EMBEDDINGS,
    FINAL,
    BadReply,
    Service,
    error_text,
    model_names,
    read_body,
    refusal_code,
    status_in,
    told_failure,
)
from apps.clients.retries import (
    DEFAULT_POLICY,
    Kind,
    RefusedError,
    RetryableError,
    RetryPolicy,
    RetryState,
    asked_pause,
    says_retry,
)
from apps.clients.streams import END, EventTooLong, chunks_of, is_chunk, read_events
from apps.clients.tidying import tidy
from apps.strict_json import BadJSON, parse_json

if TYPE_CHECKING:
    from aiohttp import ClientSession

ERROR_BYTES = 64 * 1024  # of an error's body; its message is in the first of them
STOP_CHECK_SECONDS = 0.25
EVENT_STREAM = "text/event-stream"


def _never() -> bool:
    return False


def _as_it_is(failure: CallFailed) -> bool:
    return False


async def no_budget(calls: int) -> None:
    """Let every call be made; for whom nobody counts them."""


class ChatClient:
    """Asks one endpoint: `complete` posts to {base_url}/chat/completions while holding a slot.

    stopped: asked before every call and during every wait; once true, nothing more is sent and
    `complete` raises Stopped. A call in flight may still be answered; cancelling the task that
    awaits `complete` cuts it. before_call: awaited before every call, with how many were made
    before it for the same reply; it may raise CallFailed instead. extras: what this server wants
    beyond the usual. The client belongs to the event loop in which it is first used.
    Raises ValueError for a URL, a key or extras that cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        limiter: Limiter,
        *,
        allow_private: bool = False,
        policy: RetryPolicy = DEFAULT_POLICY,
        stopped: Callable[[], bool] = _never,
        before_call: Callable[[int], Awaitable[None]] = no_budget,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        base = check_url(base_url)
        extras.check()
        self._extras = extras
        self._base = base.with_query(base.query).update_query(extras.query)
        self._urls = {service: self._url(*service.path) for service in (CHAT, EMBEDDINGS)}
        self._key = (api_key or "").strip()
        if not (self._key.isascii() and self._key.isprintable() and " " not in self._key):
            raise ValueError("An API key consists of printable ASCII characters without spaces.")
        self._limiter = limiter
        self._policy = policy
        self._stopped = stopped
        self._before_call = before_call
        self._headers = {
            "Accept": "application/json",
            # Between neighbours it costs more to pack a reply than to send it.
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": "evalplatform",
        }
        self._headers |= extras.headers_for(self._key)
        hidden = dict.fromkeys(extras.secrets(), "[secret]")
        if self._key:
            hidden[self._key] = "[key]"
        self._failures = Failures(str(base.origin()), hidden, policy)
        self._reach: dict[str, Any] = {
            "allow_private": allow_private,
            "connect_seconds": policy.connect_seconds,
            "call_seconds": policy.call_seconds,
            "proxy": extras.proxy_url() if extras.proxy else None,
        }
        bounds = Bounds(policy.reply_bytes, ERROR_BYTES)
        self._pool = HttpPool(base, self._headers, bounds, **self._reach)
        self._openings = {service: self._pool.opening(url) for service, url in self._urls.items()}
        self._session: ClientSession | None = None  # for what is streamed

    def _url(self, *path: str) -> URL:
        return self._base.joinpath(*path).with_query(self._base.query)

    async def complete(
        self,
        request: dict[str, Any] | Callable[[], dict[str, Any]],
        *,
        mend: Callable[[CallFailed], bool] = _as_it_is,
        made: int = 0,
        spent: Usage = NO_USAGE,
    ) -> Reply:
        """Send a chat request and return the reply; raises CallFailed, or Stopped.

        request: it, or who makes it once there is a slot for it. mend: told of a refusal; true
        where the request is made otherwise now, to be sent again. made, spent: what was asked
        before for the same reply; it counts with the reply's own.
        """
        return await self._call(CHAT, request, mend, made, spent)

    async def embed(self, request: dict[str, Any]) -> Reply:
        """Send an embeddings request and return the reply; raises CallFailed, or Stopped."""
        return await self._call(EMBEDDINGS, request)

    async def list_models(self) -> list[str]:
        """Return the names of the models that the server lists, asked once; raises CallFailed."""
        try:
            answer = await self._answer(self._pool.opening(self._url("models"), "GET"), b"", 1)
        except RetryableError as failure:
            self._failures.fail(failure.code, failure.message, status=failure.status, calls=1)
        try:
            body, _ = read_body(answer.body, self._policy.reply_bytes, answer.unread_coding)
        except BadReply as error:
            self._failures.fail("model_reply_invalid", str(error), status=answer.status, calls=1)
        if (names := model_names(body)) is None:
            message = "The reply is not a list of models."
            self._failures.fail("model_reply_invalid", message, status=answer.status, calls=1)
        return names

    async def _call(
        self,
        service: Service,
        request: dict[str, Any] | Callable[[], dict[str, Any]],
        mend: Callable[[CallFailed], bool] = _as_it_is,
        made: int = 0,
        spent: Usage = NO_USAGE,
    ) -> Reply:
        state = RetryState(self._policy, time.monotonic())
        state.calls, state.usage = made, spent
        try:
            return await self._try(service, request, mend, state)
        except CallFailed as failure:
            failure.usage += state.usage
            raise
        except Stopped:
            raise Stopped(state.calls, state.usage) from None

    async def _try(
        self,
        service: Service,
        request: dict[str, Any] | Callable[[], dict[str, Any]],
        mend: Callable[[CallFailed], bool],
        state: RetryState,
    ) -> Reply:
        """Try until there is a reply, or there shall be no other try."""
        self._go_on()
        # A slot before a call of the budget: what is taken of the budget is then made at once.
        number = await self._slot(0)
        has_slot = True
        state.begin(time.monotonic())
        try:
            body = self._written(request)
            while True:
                self._go_on()
                await self._before_call(state.calls)
                self._go_on()  # again, for it may have waited
                state.calls += 1
                began = time.monotonic()
                try:
                    reply = await self._ask(service, body, state.calls, number)
                    self._limiter.taken(began, reply.usage.total_tokens)
                    if state.usage is NO_USAGE:
                        return reply
                    return replace(reply, usage=state.usage + reply.usage)
                except CallFailed as failure:
                    self._hear_failed(failure, began)
                    if not mend(failure):
                        raise
                    body = self._written(request)
                    is_held, pause = False, 0.0
                except RetryableError as failure:
                    is_held = self._hear_refused(failure, began)
                    pause = 0.0 if is_held else state.pause_or_fail(failure, time.monotonic())
                keeps_its_own = is_held or self._limiter.is_counting
                if pause <= self._policy.slot_seconds and not keeps_its_own:
                    await self._wait(pause)
                    continue
                # For a longer pause the slot goes to another item, which then has its turn first.
                self._limiter.release()
                has_slot = False
                await self._wait(pause)
                waits_since = time.monotonic()
                number = await self._slot(state.calls)
                has_slot = True
                if keeps_its_own:
                    state.prolong(time.monotonic() - waits_since)
        finally:
            if has_slot:
                self._limiter.release()

    async def _slot(self, calls: int) -> int:
        try:
            return await self._limiter.acquire()
        except GivenUp as given_up:
            code = refusal_code(given_up.status or TOO_MANY)
            self._failures.fail(code, given_up.message, status=given_up.status, calls=calls)

    def _hear_refused(self, failure: RetryableError, began: float) -> bool:
        """Tell all the endpoint's callers of a refusal; return whether they wait for its end."""
        if not isinstance(failure, RefusedError):
            return False
        status, asked = failure.status or TOO_MANY, failure.asked_seconds
        return self._limiter.refused(Refusal(status, failure.message, began, asked))

    def _hear_failed(self, failure: CallFailed, began: float) -> None:
        """Tell whether the server took a call that failed, or denies all of them."""
        if failure.status in DENIALS:
            self._limiter.refused(Refusal(failure.status, failure.message, began))
        elif failure.status is not None:
            self._limiter.taken(began, 0)

    async def stream(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Send `request` and yield the answer's chunks as they come; raises CallFailed.

        Where think blocks are stripped the server is asked for one piece: a text that has begun to
        be passed on cannot be taken back.
        """
        if self._extras.strips_think:
            for chunk in chunks_of((await self.complete(request)).body):
                yield chunk
            return
        async for chunk in self._stream(request):
            yield chunk

    async def _stream(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Send `request` once; an answer in one piece after all is taken to be its chunks."""
        from apps.clients import streamed_calls  # noqa: PLC0415  aiohttp is slow to load, and rare

        body = self._written({**request, "stream": True})
        await self._slot(0)
        began = time.monotonic()
        try:
            if self._session is None:
                self._session = streamed_calls.open_session(self._headers, **self._reach)
            async with streamed_calls.post(self._session, self._urls[CHAT], body) as response:
                if not 200 <= response.status < 300:
                    content = await streamed_calls.read_some(response, ERROR_BYTES)
                    self._failures.refused(response.status, response.headers, content, 1)
                self._limiter.taken(began, 0)
                if response.content_type != EVENT_STREAM:
                    content = await streamed_calls.read_some(response, self._policy.reply_bytes)
                    whole = Answer(response.status, response.raw_headers, content)
                    for chunk in chunks_of(self._reply(CHAT, whole, 1).body):
                        yield chunk
                    return
                pieces = streamed_calls.unpacked(response)
                async for data in read_events(pieces, self._policy.reply_bytes):
                    if data == END:
                        return
                    yield self._chunk(data)
        except (CallFailed, RetryableError) as failure:
            self._fail_once(failure, began)
        except EventTooLong:
            self._failures.fail(
                "model_reply_too_large", "The reply is one event without end.", calls=1
            )
        except streamed_calls.FAULTS as error:
            self._broken(streamed_calls.fault_of(error))
        finally:
            self._limiter.release()

    def _fail_once(self, failure: CallFailed | RetryableError, began: float) -> Never:
        if isinstance(failure, CallFailed):
            self._hear_failed(failure, began)
            raise failure
        self._hear_refused(failure, began)
        self._failures.fail(failure.code, failure.message, status=failure.status, calls=1)

    def _written(self, request: dict[str, Any] | Callable[[], dict[str, Any]]) -> bytes:
        try:
            return orjson.dumps(request() if callable(request) else request)
        except orjson.JSONEncodeError as error:
            self._failures.fail("model_rejected", f"The request cannot be written as JSON: {error}")

    def _chunk(self, data: bytes) -> dict[str, Any]:
        try:
            chunk = parse_json(data)
        except BadJSON as error:
            try:
                chunk, _ = read_leniently(data, len(data))
            except BadJSON:
                message = f"A piece of the reply is not JSON: {error}"
                self._failures.fail("model_reply_invalid", message, calls=1)
        if isinstance(chunk, dict) and chunk.get("error"):
            message = f"The model server gave up: {error_text(chunk) or 'no reason given'}"
            self._failures.fail("model_server_error", message, calls=1)
        if not is_chunk(chunk):
            self._failures.fail("model_reply_invalid", "A piece of the reply is no chunk.", calls=1)
        told = told_failure(chunk)
        # A chunk without a word says nothing of the words before it.
        if told is not None and told.code not in WORDLESS:
            self._failures.fail(told.code, told.message, status=told.status, calls=1)
        return chunk

    def _broken(self, fault: HttpFault | AddressRefused) -> Never:
        try:
            self._failures.unanswered(fault, 1)
        except RetryableError as failure:
            self._failures.fail(failure.code, failure.message, status=failure.status, calls=1)

    async def close(self) -> None:
        """Close the connections; the client may not be used afterwards."""
        await self._pool.close()
        if self._session is not None:
            await self._session.close()

    def _go_on(self) -> None:
        if self._stopped():
            raise Stopped

    async def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, STOP_CHECK_SECONDS))
            self._go_on()

    async def _ask(self, service: Service, body: bytes, calls: int, number: int) -> Reply:
        answer = await self._answer(self._openings[service], body, calls)
        if answer.tells_limits and (remaining := read_remaining(answer.headers)):
            self._limiter.told(remaining, number)
        return self._reply(service, answer, calls)

    async def _answer(self, opening: bytes, body: bytes, calls: int) -> Answer:
        try:
            answer = await self._pool.post(opening, body)
        except (HttpFault, AddressRefused) as fault:
            self._failures.unanswered(fault, calls)
        status = answer.status
        if not 200 <= status < 300:
            self._failures.refused(status, answer.headers, answer.body, calls)
        if answer.is_too_large:
            self._failures.fail(
                "model_reply_too_large",
                f"The reply is larger than {self._policy.reply_bytes} bytes.",
                status=status,
                calls=calls,
            )
        return answer

    def _reply(self, service: Service, answer: Answer, calls: int) -> Reply:
        code = "model_reply_invalid"
        try:
            body, notes = read_body(answer.body, self._policy.reply_bytes, answer.unread_coding)
        except BadReply as error:
            if error.is_final:
                self._failures.fail(code, str(error), status=answer.status, calls=calls)
            fault = str(error)
        else:
            if service.fits(body):
                if service is CHAT:
                    tidy(body, strips_think=self._extras.strips_think)
                    if told := told_failure(body):
                        return self._told(told, answer, body, calls, notes)
                return Reply(body, Usage.of(body), calls, None, notes)
            if status := status_in(body):
                self._failures.refused(status, answer.headers, answer.body, calls)
            fault = error_text(body) or service.lacks
            fault = f"The reply is not {service.reply}: {fault}"
        raise self._failures.retryable(Kind.INVALID, code, fault, status=answer.status)

    def _told(
        self,
        told: ToldFailure,
        answer: Answer,
        body: dict[str, Any],
        calls: int,
        notes: tuple[str, ...],
    ) -> Reply:
        """Return a reply without a word; raises where another try may help, or nobody answered."""
        if told.code in FINAL:
            self._failures.fail(
                told.code, told.message, status=answer.status, calls=calls, body=body
            )
        if told.code in WORDLESS and not says_retry(answer.headers):
            return Reply(body, Usage.of(body), calls, told, notes)
        raise self._failures.retryable(
            Kind.REFUSED,
            told.code,
            told.message,
            status=told.status,
            asked_seconds=asked_pause(answer.headers),
            body=body,
        )
