"""Decide, of what callers report and what is known, how many calls an endpoint gets and when."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from apps.clients import Refusal
from apps.clients.base import DENIALS
from apps.inference.models import EndpointPace
from apps.strict_json import dump_json, parse_json

MINUTE = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds, where the server does not say how long
TRUSTED_PAUSES = 3  # of what it says, in a row; then it knows no better than we do
# One call goes first after a pause. A server that refuses says so at once, so one that has said
# nothing for so long has taken the call.
PROBE_SECONDS = 2.0
# A number of calls in a time is learned of pauses and windows that are neither shorter nor longer.
LEARNED_PAUSE, LEARNED_WINDOW = 1.0, 120.0
LEARNED_FOR = timedelta(days=1)
# A limit that held for a whole window, and for so many calls, rises by a tenth, by one at least.
RISE_CALLS, RISE_PART = 10, 10
RISE_SECONDS = 1.0  # calls in flight rise by an eighth so often, by one at least
GIVEN_UP_SECONDS = 60.0  # between two calls to a server that was given up
MOMENTS, MOMENTS_MAX = 50, 400  # calls are counted in so many steps of a window, and at most
LOOK_SECONDS = 0.25  # while another process tries a call
FIRST_PERMITS = 4  # where only tokens are limited, and nobody knows what a call takes


@dataclass(frozen=True)
class Report:
    """The calls of one process at an endpoint since its last report.

    Moments are of its time.monotonic(). refusal: the latest, with the longest wait that any of
    the `refused` asked for. hold_seconds: how long the server said that it has no call left.
    newest_taken: when the latest call was sent that went well, 0 for none. since: the beginning
    of the time that is reported. returned: permits not used. wanted: calls that wait.
    """

    refusal: Refusal | None = None
    refused: int = 0
    hold_seconds: float = 0.0
    taken: int = 0
    tokens: int = 0
    newest_taken: float = 0.0
    since: float = 0.0
    returned: int = 0
    wanted: int = 0


@dataclass(frozen=True)
class Permission:
    """The calls that may begin; permits: None for as many as there are slots.

    ask_in_seconds: no sooner will there be more. given_up: why nobody waits any more, else "";
    with the status of the last refusal.
    """

    permits: int | None = None
    ask_in_seconds: float = 0.0
    given_up: str = ""
    status: int | None = None


FREE = Permission()


@dataclass(frozen=True)
class Limits:
    """The limits of an endpoint that were set by hand, and how long callers wait in vain."""

    concurrency: int
    requests_per_minute: int | None
    tokens_per_minute: int | None
    patience_seconds: float

    @property
    def are_set(self) -> bool:
        return self.requests_per_minute is not None or self.tokens_per_minute is not None


class Ledger:
    """The calls begun of late, as [seconds since 1970, calls, tokens] a moment, oldest first."""

    def __init__(self, text: str, now: float, window: float, kept: float) -> None:
        self._now = now
        self._step = max(window / MOMENTS, kept / MOMENTS_MAX)
        oldest = now - kept - self._step
        self._moments: list[list[float]] = [one for one in parse_json(text) if one[0] > oldest]

    def dump(self) -> str:
        return dump_json(
            [[round(at, 3), calls, round(tokens)] for at, calls, tokens in self._moments]
        )

    def add(self, calls: int, tokens: float) -> None:
        last = self._moments[-1] if self._moments else None
        if last is None or self._now - last[0] > self._step:
            last = [self._now, 0, 0.0]
            self._moments.append(last)
        last[1] += calls
        last[2] += tokens

    def take_back(self, calls: int, tokens_a_call: float) -> None:
        """Count so many of the latest calls as not made."""
        for moment in reversed(self._moments):
            some = min(calls, int(moment[1]))
            moment[1] -= some
            moment[2] = max(0.0, moment[2] - some * tokens_a_call)
            calls -= some

    def correct(self, tokens: float) -> None:
        """Count so many tokens more, or fewer, than calls were thought to take."""
        if self._moments:
            self._moments[-1][2] = max(0.0, self._moments[-1][2] + tokens)

    def calls(self, seconds: float) -> int:
        return int(sum(one[1] for one in self._within(seconds)))

    def tokens(self, seconds: float) -> float:
        return sum(one[2] for one in self._within(seconds))

    def wait(self, seconds: float, limit: float, position: int) -> float:
        """Return the seconds until less than `limit` of the calls (1) or tokens (2) count."""
        counted = self._within(seconds)
        total = sum(one[position] for one in counted)
        wait = 0.0
        for one in counted:
            if total < limit:
                break
            total -= one[position]
            wait = one[0] + seconds + self._step - self._now
        return wait

    def _within(self, seconds: float) -> Sequence[list[float]]:
        # A moment holds the calls of a whole step: they count until the last of them is too old.
        return [one for one in self._moments if one[0] > self._now - seconds - self._step]


class Pacing:
    """An endpoint's pace at a moment; what it decides is written to `pace`, which is not saved.

    now: the database's time. clock: time.monotonic() of the process that reports.
    """

    def __init__(self, pace: EndpointPace, limits: Limits, now: datetime, clock: float) -> None:
        self.pace = pace
        self.limits = limits
        self.now = now
        self._clock = clock
        window = pace.window_seconds or MINUTE
        kept = max(window, MINUTE) if limits.are_set else window
        self._ledger = Ledger(pace.spent, now.timestamp(), window, kept)

    def _moment(self, at: float) -> datetime:
        """Return the time of a moment of the reporting process."""
        return self.now - timedelta(seconds=self._clock - at)

    def _in(self, seconds: float) -> datetime:
        return self.now + timedelta(seconds=seconds)

    @property
    def is_restricted(self) -> bool:
        """Return whether calls need permits."""
        pace = self.pace
        return self.limits.are_set or pace.is_probing or pace.calls is not None or self.is_paused

    @property
    def is_paused(self) -> bool:
        return self.pace.paused_until is not None and self.pace.paused_until > self.now

    def hear(self, report: Report, in_flight: int) -> None:
        """Take in a report. in_flight: calls of runs at most in flight, over all processes."""
        pace = self.pace
        if not self.is_restricted:
            # Until now nothing was limited, and so nothing reported.
            pace.opened_at, pace.taken_count = self._moment(report.since), 0
        self._count(report)
        if report.newest_taken:
            self._hear_taken(self._moment(report.newest_taken))
        if report.refusal is not None:
            self._hear_refused(report.refusal, in_flight)
        if report.hold_seconds:
            held_until = self._in(min(report.hold_seconds, self.limits.patience_seconds))
            if pace.paused_until is None or held_until > pace.paused_until:
                pace.paused_until = pace.asked_until = held_until
                pace.status, pace.words = 200, "It says that no call is left until then."
        pace.spent = self._ledger.dump()

    def _count(self, report: Report) -> None:
        pace = self.pace
        pace.taken_count += report.taken
        self._ledger.take_back(report.refused + report.returned, pace.tokens_a_call)
        if report.taken and self.limits.tokens_per_minute is not None:
            self._ledger.correct(report.tokens - report.taken * pace.tokens_a_call)
            mean = report.tokens / report.taken
            known = pace.tokens_a_call
            pace.tokens_a_call = known + (mean - known) / 4 if known else mean
        if report.returned and pace.is_probing:
            pace.probe_until = None

    def _hear_taken(self, sent_at: datetime) -> None:
        pace = self.pace
        since = pace.paused_until if pace.given_up_at is None else pace.refused_at
        if since is not None and sent_at < since:
            return  # it was under way when others were refused
        if pace.is_probing:
            self._open(sent_at)
        pace.failing_since = pace.given_up_at = None
        pace.refusals = 0

    def _hear_refused(self, refusal: Refusal, in_flight: int) -> None:
        pace, now = self.pace, self.now
        asked = refusal.asked_seconds
        pace.status, pace.words, pace.refused_at = refusal.status, refusal.words, now
        if pace.paused_until is not None and self._moment(refusal.began) < pace.paused_until:
            # It was under way when another was refused, or its process had not heard of that.
            if asked and pace.given_up_at is None:
                self._pause(asked)
            return
        was_open = not pace.is_probing
        pace.failing_since = pace.failing_since or now
        pace.refusals += 1
        pace.is_probing, pace.probe_until = True, None
        wait = asked or 0.0
        if not asked or pace.refusals > TRUSTED_PAUSES:
            longer = FIRST_PAUSE * 2.0 ** min(pace.refusals - 1, 20)
            wait = max(wait, min(LONGEST_PAUSE, longer))
        if refusal.status not in DENIALS:
            if was_open:
                if in_flight:
                    self._halve(in_flight)
                if pace.window_seconds is not None:
                    pace.window_count = self._ledger.calls(pace.window_seconds)
            if not asked:
                wait = max(wait, self._window_wait())
        if pace.failing_since + timedelta(seconds=self.limits.patience_seconds) <= now:
            pace.given_up_at = pace.given_up_at or now
            wait = GIVEN_UP_SECONDS
        pace.paused_until = None
        self._pause(wait)
        pace.asked_until = self._in(asked) if asked else None

    def _pause(self, seconds: float) -> None:
        """Let nobody in for so long, though never longer than callers wait."""
        pace = self.pace
        until = self._in(min(seconds, self.limits.patience_seconds))
        if pace.failing_since is not None and pace.given_up_at is None:
            until = min(until, pace.failing_since + timedelta(seconds=self.limits.patience_seconds))
            until = max(until, self._in(FIRST_PAUSE))
        if pace.paused_until is None or until > pace.paused_until:
            pace.paused_until = until

    def _halve(self, in_flight: int) -> None:
        pace = self.pace
        most = min(concurrency_of(pace, self.limits.concurrency), in_flight)
        pace.concurrency, pace.concurrency_at = max(1, most // 2), self.now

    def _window_wait(self) -> float:
        pace = self.pace
        if pace.window_count is None or pace.window_seconds is None:
            return 0.0
        return self._ledger.wait(pace.window_seconds, max(1, pace.window_count), 1)

    def _open(self, sent_at: datetime) -> None:
        """End a pause: the server took the call that went first."""
        pace = self.pace
        is_denial = pace.status in DENIALS
        if not is_denial and pace.failing_since and pace.opened_at and pace.paused_until:
            self._learn(pace.failing_since, pace.opened_at, pace.paused_until)
        pace.is_probing, pace.probe_until = False, None
        pace.opened_at, pace.taken_count, pace.window_count = sent_at, 1, None
        pace.failing_since = pace.given_up_at = None
        pace.refusals = 0

    def _learn(self, failing_since: datetime, opened_at: datetime, until: datetime) -> None:
        """Conclude how many calls the server takes in how long: those between two pauses' ends.

        Where a limit is known, the calls of its last window say something too, and the better of
        the two is taken: a server that was asked evenly had no such pauses. The burst that is let
        through at once does not grow by it.
        """
        pace = self.pace
        taken = pace.taken_count - 1  # that of the call that went first belongs to the next
        seconds = (until - opened_at).total_seconds()
        known, window = pace.calls, pace.window_seconds
        if (until - failing_since).total_seconds() < LEARNED_PAUSE:
            if window is not None:
                pace.window_seconds = window * (1 + 1 / RISE_PART)
                pace.learned_at = self.now
            return
        rate = taken / seconds if LEARNED_PAUSE <= seconds <= LEARNED_WINDOW else 0.0
        if known is not None and window is not None:
            counted = pace.window_count or 0
            if counted / window >= rate:
                taken, seconds = counted, window
            elif taken > known:
                taken, seconds = known, known / rate
        elif not rate:
            return
        if taken:
            pace.calls, pace.window_seconds, pace.learned_at = taken, seconds, self.now

    def allow(self, wanted: int) -> Permission:
        """Let so many calls begin, or as many as may."""
        pace = self.pace
        if pace.learned_at is not None and self.now - pace.learned_at > LEARNED_FOR:
            pace.calls = pace.window_seconds = pace.learned_at = None
        if pace.given_up_at is not None:
            return self._allow_given_up(wanted)
        if self.is_paused:
            assert pace.paused_until is not None
            return Permission(0, (pace.paused_until - self.now).total_seconds())
        if pace.is_probing:
            return self._allow_one(wanted)
        if not self.is_restricted:
            return FREE
        return self._allow_within(wanted)

    def _allow_one(self, wanted: int) -> Permission:
        pace = self.pace
        if pace.probe_until is not None and pace.probe_until <= self.now:
            pace.taken_count += 1
            self._open(self.now)
            return self.allow(wanted)
        if pace.probe_until is None and wanted:
            pace.probe_until = self._in(PROBE_SECONDS)
            self._spend(1)
            return Permission(1, PROBE_SECONDS)
        return Permission(0, LOOK_SECONDS if pace.probe_until is not None else 0.0)

    def _allow_given_up(self, wanted: int) -> Permission:
        """Let one call try in a while, and turn away all others, or begin anew when it is quiet."""
        pace = self.pace
        assert pace.refused_at is not None
        if not self.is_paused:
            # Nobody has asked for a while: who comes now has all the patience there is.
            pace.given_up_at = pace.failing_since = None
            return self._allow_one(wanted)
        quiet_until = self._in(GIVEN_UP_SECONDS)
        pace.paused_until = max(pace.paused_until or quiet_until, quiet_until)
        if self.now - pace.refused_at > timedelta(seconds=GIVEN_UP_SECONDS) and wanted:
            pace.refused_at = self.now
            return Permission(1, PROBE_SECONDS)
        return Permission(0, PROBE_SECONDS, self.given_up_words(), pace.status)

    def given_up_words(self) -> str:
        waited = shown_seconds(self.limits.patience_seconds)
        return f"The model server took no call for {waited}. It says: {self.pace.words}"

    def _allow_within(self, wanted: int) -> Permission:
        room, wait = self._room()
        pace = self.pace
        if room < wanted and pace.calls is not None and pace.learned_at is not None:
            held_for = (pace.window_seconds or 0) * max(1.0, RISE_CALLS / pace.calls)
            if self.now - pace.learned_at >= timedelta(seconds=held_for):
                pace.calls += max(1, pace.calls // RISE_PART)
                pace.learned_at = self.now
                room, wait = self._room()
        permits = min(wanted, room)
        if permits:
            self._spend(permits)
        return Permission(permits, 0.0 if room > permits else wait)

    def _room(self) -> tuple[int, float]:
        """Return how many calls may begin now, and in how many seconds there are more."""
        pace, limits, ledger = self.pace, self.limits, self._ledger
        rooms: list[float] = []
        waits = [0.0]
        windows = ((pace.calls, pace.window_seconds), (limits.requests_per_minute, MINUTE))
        for calls, seconds in windows:
            if calls is not None and seconds is not None:
                rooms.append(calls - ledger.calls(seconds))
                waits.append(ledger.wait(seconds, calls, 1))
        if (tokens := limits.tokens_per_minute) is not None:
            left = tokens - ledger.tokens(MINUTE)
            if pace.tokens_a_call:
                rooms.append(left // pace.tokens_a_call if left > 0 else 0)
                # A call that takes more than all of a minute's begins when nothing else counts.
                if not ledger.calls(MINUTE):
                    rooms[-1] = max(1, rooms[-1])
            else:
                rooms.append(FIRST_PERMITS - ledger.calls(PROBE_SECONDS))
            needed = max(1.0, tokens - pace.tokens_a_call)
            waits.append(ledger.wait(MINUTE, needed, 2))
        return max(0, int(min(rooms, default=0))), max(waits)

    def _spend(self, calls: int) -> None:
        self._ledger.add(calls, calls * self.pace.tokens_a_call)
        self.pace.spent = self._ledger.dump()


def concurrency_of(pace: EndpointPace | None, concurrency: int) -> int:
    """Return how many calls may be in flight: the endpoint's number, or what was learned."""
    if pace is None or pace.concurrency is None:
        return concurrency
    return min(concurrency, pace.concurrency)


def shown_seconds(seconds: float) -> str:
    """Write a duration for people."""
    if seconds >= 120:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds:.0f} seconds" if seconds >= 1 else f"{seconds:.1f} seconds"
