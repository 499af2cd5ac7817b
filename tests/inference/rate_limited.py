"""A simulated model server with a rate limit, and callers that keep to a Pacing; no clock runs."""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count

from apps.clients import Refusal
from apps.inference.models import EndpointPace
from apps.inference.pacing import Limits, Pacing, Report, concurrency_of

EPOCH = datetime(2026, 3, 1, tzinfo=UTC)
POLL_SECONDS = 0.1
LATENCY = 0.02


class FixedWindow:
    """So many calls a window; windows follow each other from `start` on."""

    def __init__(self, calls: int, seconds: float, start: float = 0.0) -> None:
        self.calls, self.seconds, self.start = calls, seconds, start
        self.window, self.used = -1, 0

    def wait(self, now: float) -> float:
        """Take a call and return 0, or the seconds until the next is taken."""
        window = int((now - self.start) // self.seconds)
        if window != self.window:
            self.window, self.used = window, 0
        if self.used < self.calls:
            self.used += 1
            return 0.0
        return self.start + (window + 1) * self.seconds - now


class SlidingWindow:
    """So many calls in any time of so many seconds."""

    def __init__(self, calls: int, seconds: float) -> None:
        self.calls, self.seconds = calls, seconds
        self.taken: deque[float] = deque()

    def wait(self, now: float) -> float:
        while self.taken and self.taken[0] <= now - self.seconds:
            self.taken.popleft()
        if len(self.taken) < self.calls:
            self.taken.append(now)
            return 0.0
        return self.taken[0] + self.seconds - now


class Bucket:
    """A bucket of tokens that fills evenly."""

    def __init__(self, calls: int, seconds: float) -> None:
        self.most, self.rate = float(calls), calls / seconds
        self.tokens, self.at = self.most, 0.0

    def wait(self, now: float) -> float:
        self.tokens = min(self.most, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / self.rate


Server = FixedWindow | SlidingWindow | Bucket


@dataclass
class Course:
    """Counts of the rows by their outcome, and of the calls that they took."""

    calls: int = 0
    refused: int = 0
    first_in_flight: int = 0  # when the first of them was
    given_up: int = 0
    seconds: float = 0.0


class Callers:
    """A process that asks a server until every row is answered or given up."""

    def __init__(
        self,
        server: Server,
        rows: int,
        concurrency: int,
        *,
        says: Callable[[float], float | None] = lambda wait: wait,
        pace: EndpointPace | None = None,
        answer_seconds: float = 0.05,
        requests_per_minute: int | None = None,
        patience: float = 600.0,
        begin: float = 0.0,
    ) -> None:
        """says: what Retry-After says for a wait, None for nothing."""
        self.server, self.says, self.answer_seconds = server, says, answer_seconds
        self.pace = pace if pace is not None else EndpointPace()
        self.limits = Limits(concurrency, requests_per_minute, None, patience)
        self.course = Course()
        self.begin = self.now = self.since = self.ask_at = begin
        self.waiting, self.in_flight = rows, 0
        needs_permits = requests_per_minute is not None or self.pace.calls is not None
        self.permits: int | None = 0 if needs_permits else None
        self.refusals: list[Refusal] = []
        self.taken, self.newest_taken = 0, 0.0
        # When something happens, in which order, what, and when the call was sent.
        self.events: list[tuple[float, int, str, float]] = [(begin, 0, "poll", 0.0)]
        self.numbers = count(1)
        self.waits: dict[float, float] = {}

    def run(self) -> Course:
        while self.waiting or self.in_flight:
            self.now, _, kind, sent = heapq.heappop(self.events)
            if kind == "taken":
                self.in_flight -= 1
                self.taken += 1
                self.newest_taken = max(self.newest_taken, sent)
            elif kind == "refused":
                self.hear_refused(sent)
            else:
                self.poll()
                self.expect("poll", POLL_SECONDS)
            self.send()
        self.course.seconds = self.now - self.begin
        return self.course

    def expect(self, kind: str, seconds: float) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.numbers), kind, self.now))

    def hear_refused(self, sent: float) -> None:
        course = self.course
        if not course.refused:
            course.first_in_flight = self.in_flight
        course.refused += 1
        self.in_flight -= 1
        self.waiting += 1
        self.refusals.append(Refusal(429, "Slow down.", sent, self.says(self.waits[sent])))
        self.permits = 0

    def poll(self) -> None:
        is_due = self.newest_taken or self.now >= self.ask_at
        if not self.refusals and (self.permits is None or not is_due):
            return
        asks = [one.asked_seconds for one in self.refusals if one.asked_seconds is not None]
        newest = (
            replace(self.refusals[-1], asked_seconds=max(asks, default=None))
            if (self.refusals)
            else None
        )
        report = Report(
            newest,
            len(self.refusals),
            taken=self.taken,
            newest_taken=self.newest_taken,
            since=self.since,
            wanted=max(0, self.waiting - (self.permits or 0)),
        )
        pacing = Pacing(self.pace, self.limits, EPOCH + timedelta(seconds=self.now), self.now)
        pacing.hear(report, self.in_flight + len(self.refusals))
        self.taken, self.newest_taken, self.refusals, self.since = 0, 0.0, [], self.now
        permission = pacing.allow(report.wanted)
        self.ask_at = self.now + permission.ask_in_seconds
        if permission.given_up:
            self.course.given_up += self.waiting
            self.waiting = 0
        more = permission.permits
        self.permits = None if more is None else (self.permits or 0) + more

    def send(self) -> None:
        most = concurrency_of(self.pace, self.limits.concurrency)
        while self.waiting and self.in_flight < most and self.permits != 0:
            self.waiting -= 1
            self.in_flight += 1
            if self.permits is not None:
                self.permits -= 1
            self.course.calls += 1
            self.waits[self.now] = wait = self.server.wait(self.now + LATENCY / 2)
            if wait:
                self.expect("refused", LATENCY)
            else:
                self.expect("taken", self.answer_seconds)
