"""Decide whether a failed call is made again, and after which pause."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

from apps.clients.base import NO_USAGE, CallFailed, Usage


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The bounds of one item's calls, in seconds and tries."""

    connecting_seconds: float = 60.0  # no try begins later than this after the first
    answered_seconds: float = 25.0  # ... nor than this after the first refusal
    answered_tries: int = 5
    invalid_tries: int = 2
    call_seconds: float = 120.0
    connect_seconds: float = 10.0
    slot_seconds: float = 5.0  # a longer wait gives its slot to another item
    reply_bytes: int = 8 * 1024 * 1024


DEFAULT_POLICY = RetryPolicy()


class Kind(Enum):
    """The reason why a try came to nothing; its value is (first, longest pause) in seconds."""

    LOST = (0.2, 3.0)  # no connection, or it broke before the answer was whole
    REFUSED = (0.5, 8.0)  # answered 408, 429 or 5xx
    INVALID = (0.25, 0.25)  # answered, but with no chat completion


class RetryableError(Exception):
    """A try that came to nothing and may be repeated; `code` and the rest if it may not.

    body: the completion that told a failure.
    """

    def __init__(
        self,
        kind: Kind,
        code: str,
        message: str,
        *,
        status: int | None = None,
        asked_seconds: float | None = None,
        body: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(code, message)
        self.kind = kind
        self.code = code
        self.message = message
        self.status = status
        self.asked_seconds = asked_seconds
        self.body = body


class RefusedError(RetryableError):
    """The server takes no call for now, whoever makes it."""


class RetryState:
    """Counts the tries of one reply so far, and decides on the next by a RetryPolicy.

    usage: of the tries whose completion told a failure.
    """

    def __init__(self, policy: RetryPolicy, now: float) -> None:
        self.calls = 0
        self.usage = NO_USAGE
        self._policy = policy
        self._last_start = now + policy.connecting_seconds
        self._failures: dict[Kind, int] = {}
        self._answered_until = math.inf

    def pause(self, failure: RetryableError, now: float) -> float | None:
        """Seconds to wait before the next try, or None when there shall be none.

        A server that asks for more time than is left gets no further try: coming back earlier
        than it asked would be refused again.
        """
        kind, policy = failure.kind, self._policy
        if failure.body is not None:
            self.usage += Usage.of(failure.body)
        self._failures[kind] = self._failures.get(kind, 0) + 1
        until = self._last_start
        if kind is not Kind.LOST:
            tries = policy.invalid_tries if kind is Kind.INVALID else policy.answered_tries
            if self._failures[kind] >= tries or self._answers() >= policy.answered_tries:
                return None
            self._answered_until = min(self._answered_until, now + policy.answered_seconds)
            until = min(until, self._answered_until)
        asked = failure.asked_seconds
        pause = asked if asked else _backoff(kind, self._failures[kind])
        if now + pause > until:
            return None
        if asked:
            # Those who were refused together should not come back together.
            pause = min(pause + random.uniform(0, min(1.0, asked / 10)), until - now)  # noqa: S311 - no secret
        return pause

    def pause_or_fail(self, failure: RetryableError, now: float) -> float:
        """Return the seconds until the next try; raises CallFailed where there is none."""
        pause = self.pause(failure, now)
        if pause is None:
            raise CallFailed(
                failure.code,
                failure.message,
                status=failure.status,
                calls=self.calls,
                body=failure.body,
                retry_after=failure.asked_seconds,
            ) from None
        return pause

    def begin(self, now: float) -> None:
        """Count an item's time from now on, when its first call may be made."""
        self._last_start = now + self._policy.connecting_seconds

    def prolong(self, seconds: float) -> None:
        """Leave out of the bounds a wait that was the endpoint's and no failure of this item."""
        self._last_start += seconds
        self._answered_until += seconds

    def _answers(self) -> int:
        return self._failures.get(Kind.REFUSED, 0) + self._failures.get(Kind.INVALID, 0)


def _backoff(kind: Kind, failures: int) -> float:
    first, longest = kind.value
    return min(longest, first * 2.0 ** min(failures - 1, 30)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def says_retry(headers: Mapping[str, str]) -> bool:
    """Tell whether the server says that the same request may go well if it is sent again."""
    return headers.get("X-Should-Retry") == "true" or asked_pause(headers) is not None


def asked_pause(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that Retry-After-Ms or else Retry-After (seconds or an HTTP date) asks to wait.

    None when neither says anything readable, 0 for a moment that has passed.
    """
    milliseconds = _number(headers.get("Retry-After-Ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("Retry-After")
    if text is None:
        return None
    seconds = _number(text)
    if seconds is not None:
        return seconds
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None
