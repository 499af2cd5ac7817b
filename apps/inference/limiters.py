"""Limit the calls that this process has in flight at an endpoint, and let runs take turns."""

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from contextvars import ContextVar

from apps.clients import GivenUp, Limiter, Refusal, Remaining, Stopped
from apps.inference.pacing import Permission, Report

FIRST_CALLS = 5  # of a run: when a server denies so many, and took none, it will take no other
HOLD_SECONDS = 0.25  # a shorter wait until a server counts anew is not worth one
REPORT_SECONDS = 1.0  # calls that went well are told of no more often than this

# Set while an item has its answer: what it asks is let in before what has not begun, and a worker
# that lets its work go lets it end.
has_begun: ContextVar[bool] = ContextVar("has_begun", default=False)


class Queue:
    """The callers of one run that wait, those first whose item has its answer."""

    __slots__ = ("begun", "new")

    def __init__(self) -> None:
        self.begun: deque[asyncio.Future[int]] = deque()
        self.new: deque[asyncio.Future[int]] = deque()

    def __bool__(self) -> bool:
        return bool(self.begun or self.new)

    def pop(self) -> asyncio.Future[int] | None:
        """Take the next who still waits; those who were cancelled are passed over."""
        for waiters in (self.begun, self.new):
            while waiters:
                waiter = waiters.popleft()
                if not waiter.done():
                    return waiter
        return None

    def waiting(self) -> int:
        return sum(not waiter.done() for waiters in (self.begun, self.new) for waiter in waiters)


class EndpointLimiter:
    """Lets as many call at one endpoint as this worker holds slots; runs take turns.

    By turns, since a run with thousands of items would keep all others waiting. Belongs to one
    event loop. A smaller grant takes effect as calls end.
    wake: called when the coordinator should be polled; None where nobody answers reports, and each
    caller sees to refusals alone. Once the server has refused, or where calls a minute are
    limited, each call needs a permit as well, of those that the tables have for all processes.
    """

    def __init__(self, granted: int, wake: Callable[[], None] | None = None) -> None:
        self.granted = granted
        self.in_use = 0
        self.permits: int | None = None  # None: each slot may be used
        self._room: int | None = None  # calls that the server said it still takes, when few
        self._waiting: OrderedDict[Hashable, Queue] = OrderedDict()
        self._wake = wake
        self._sent = 0
        self._given_up: GivenUp | None = None
        self._ask_at = 0.0  # by time.monotonic(): no sooner are there more permits
        # What was not reported yet.
        self._since = time.monotonic()
        self._taken = self._tokens = self._returned = 0
        self._newest_taken = 0.0
        self.refusals: list[Refusal] = []
        self._hold_seconds = 0.0
        self._tokens_a_call = 0.0

    @property
    def committed(self) -> int:
        """The most calls that may be in flight before the next `resize`."""
        return max(self.granted, self.in_use)

    @property
    def waiting(self) -> int:
        """The number of those that wait; cancelled ones are left out."""
        return sum(queue.waiting() for queue in self._waiting.values())

    @property
    def demand(self) -> int:
        """The number of calls in flight and of those that wait."""
        return self.in_use + self.waiting

    @property
    def is_idle(self) -> bool:
        return self.demand == 0

    @property
    def is_held_up(self) -> bool:
        """Return whether callers wait for the server rather than for each other."""
        return self.permits == 0 and bool(self._waiting)

    @property
    def seconds_to_ask(self) -> float:
        """Return in how many seconds there may be more permits for those who wait."""
        if self.permits != 0 or not self._waiting:
            return math.inf
        return max(0.0, self._ask_at - time.monotonic())

    @property
    def begun_waiting(self) -> bool:
        """Return whether a caller waits for the server whose item has its answer."""
        return self.permits is not None and any(one.begun for one in self._waiting.values())

    def resize(self, granted: int) -> None:
        self.granted = granted
        self._admit()

    async def acquire(self, run: Hashable) -> int:
        # Not past those who wait, even where a slot is free: it is on its way to one of them.
        is_free = self.permits is None and self._room is None
        if self.in_use < self.granted and not self._waiting and is_free:
            self.in_use += 1
            self._sent += 1
            return self._sent
        return await self._wait(run)

    async def _wait(self, run: Hashable) -> int:
        if self._given_up is not None:
            raise GivenUp(self._given_up.message, self._given_up.status)
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(run, Queue())
        (queue.begun if has_begun.get() else queue.new).append(waiter)
        if self.permits is not None or self._room is not None:
            self._admit()
            if self.permits == 0 and self._wake and time.monotonic() >= self._ask_at:
                self._wake()
        try:
            return await waiter
        except asyncio.CancelledError:
            # Cut in the moment between being let in and going on: the slot goes to the next.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                if self.permits is not None:
                    self.permits += 1
                self.release()
            raise

    def release(self) -> None:
        self.in_use -= 1
        if not self.in_use:
            self._room = None  # no answer is on its way that could say more
        self._admit()

    def dismiss(self) -> None:
        """Turn away all who wait and whose item has no answer yet."""
        for queue in self._waiting.values():
            _turn_away(queue.new, Stopped)
        self._waiting = OrderedDict((run, queue) for run, queue in self._waiting.items() if queue)

    def _admit(self) -> None:
        while self.in_use < self.granted and self._waiting and self.permits != 0:
            if self._room == 0:
                break
            run, queue = self._waiting.popitem(last=False)
            if (waiter := queue.pop()) is not None:
                self.in_use += 1
                self._sent += 1
                waiter.set_result(self._sent)
                if self.permits is not None:
                    self.permits -= 1
                if self._room is not None:
                    self._room -= 1
            if queue:
                self._waiting[run] = queue  # behind the other runs

    def taken(self, began: float, tokens: int) -> None:
        """Hear that the server answered a call."""
        self._taken += 1
        self._tokens += tokens
        if self.permits is not None:
            if not self._newest_taken and self._wake:
                self._wake()  # the first since a report may end a pause
            self._newest_taken = max(self._newest_taken, began)

    def refused(self, refusal: Refusal) -> bool:
        """Let nobody in until the coordinator says so; False where there is none."""
        self.refusals.append(refusal)
        if self._wake is None:
            return False
        self._hold()
        return True

    def told(self, remaining: Remaining, number: int) -> None:
        """Hold all calls where the server says that it takes none before it counts anew.

        number: of the call that it answered. Those that were sent after it are not in its count.
        """
        sent_since = self._sent - number
        if self._taken:
            self._tokens_a_call = self._tokens / self._taken
        wait = 0.0
        self._room = None
        if remaining.calls is not None and remaining.calls_reset_seconds:
            room = remaining.calls - sent_since
            if room <= 0:
                wait = remaining.calls_reset_seconds
            elif room < self.granted and remaining.calls_reset_seconds >= HOLD_SECONDS:
                self._room = room
        if remaining.tokens is not None:
            needed = self._tokens_a_call * (sent_since + 1)
            if remaining.tokens < max(1.0, needed):
                wait = max(wait, remaining.tokens_reset_seconds or 0.0)
        if wait >= HOLD_SECONDS and self._wake is not None:
            self._hold_seconds = max(self._hold_seconds, wait)
            self._hold()

    def _hold(self) -> None:
        self._returned += self.permits or 0
        self.permits = 0
        if self._wake is not None:
            self._wake()

    def report(self) -> Report | None:
        """Say what the coordinator must know, once; None for nothing that it has to answer now."""
        now = time.monotonic()
        if self.permits is None:
            return None
        if self.permits and not self._waiting:
            # Another process may have callers for them.
            self._returned += self.permits
            self.permits = 0
        wanted = max(0, min(self.waiting, 2 * max(1, self.granted)) - self.permits)
        has_news = self.refusals or self._hold_seconds or self._newest_taken or self._returned
        if not has_news and not (wanted and now >= self._ask_at):
            return None
        newest = self.refusals[-1] if self.refusals else None
        if newest is not None:
            asked = [one.asked_seconds for one in self.refusals if one.asked_seconds is not None]
            newest = max(self.refusals, key=lambda one: one.began)
            newest = Refusal(newest.status, newest.words, newest.began, max(asked, default=None))
        report = Report(
            refusal=newest,
            refused=len(self.refusals),
            hold_seconds=self._hold_seconds,
            taken=self._taken,
            tokens=self._tokens,
            newest_taken=self._newest_taken,
            since=self._since,
            returned=self._returned,
            wanted=wanted,
        )
        self.refusals, self._hold_seconds, self._newest_taken = [], 0.0, 0.0
        self._taken = self._tokens = self._returned = 0
        self._since = now
        return report

    def permit(self, permission: Permission) -> None:
        """Take in the coordinator's answer."""
        self._ask_at = time.monotonic() + permission.ask_in_seconds
        if permission.given_up:
            self._give_up(GivenUp(permission.given_up, permission.status))
        else:
            self._given_up = None
        permits = permission.permits
        if self.refusals or self._hold_seconds:
            # The answer does not know of what has come since; the next report tells it.
            self._returned += permits or 0
        elif permits is None:
            self.permits = None
        else:
            self.permits = (self.permits or 0) + permits
        self._admit()

    def _give_up(self, reason: GivenUp) -> None:
        self._given_up = reason
        for queue in self._waiting.values():
            for waiters in (queue.begun, queue.new):
                _turn_away(waiters, lambda: GivenUp(reason.message, reason.status))
        self._waiting.clear()


def _turn_away(waiters: deque["asyncio.Future[int]"], reason: Callable[[], Exception]) -> None:
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_exception(reason())


class FirstCalls:
    """The first calls of a run at its endpoint: a server that denies them all will take no other.

    wake: called once that is so; then no further call is sent before `settle`. words: the server's.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.words = ""
        self.is_over = False
        self._wake = wake
        self._denied = 0
        self._settled = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Return whether the server denied them, and nobody has said yet what follows."""
        return bool(self.words) and not self.is_over

    def denied(self, words: str) -> bool:
        """Hear of a denial; return whether it was one of the run's first calls, and no other's."""
        if self.is_over:
            return False
        self._denied += 1
        if self._denied == FIRST_CALLS:
            self.words = words
            self._wake()
        return True

    def settle(self) -> None:
        self.is_over = True
        self._settled.set()

    async def until_settled(self) -> None:
        await self._settled.wait()


class RunLimiter(Limiter):
    """An endpoint's limiter as the clients of one run see it.

    first_calls: None where the run does not end by its first calls.
    """

    def __init__(
        self, limiter: EndpointLimiter, run: Hashable, first_calls: FirstCalls | None = None
    ) -> None:
        self._limiter = limiter
        self._run = run
        self._first_calls = first_calls

    @property
    def is_counting(self) -> bool:  # type: ignore[override]  # an attribute there
        return self._limiter.permits is not None

    async def acquire(self) -> int:
        number = await self._limiter.acquire(self._run)
        first = self._first_calls
        if first is not None and first.is_open:
            try:
                await first.until_settled()
            except asyncio.CancelledError:
                self._limiter.release()
                raise
        return number

    def release(self) -> None:
        self._limiter.release()

    def taken(self, began: float, tokens: int) -> None:
        if self._first_calls is not None:
            self._first_calls.settle()
            self._first_calls = None
        self._limiter.taken(began, tokens)

    def refused(self, refusal: Refusal) -> bool:
        first = self._first_calls
        if first is not None and refusal.is_denial and first.denied(refusal.words):
            return True
        return self._limiter.refused(refusal)

    def told(self, remaining: Remaining, number: int) -> None:
        self._limiter.told(remaining, number)
