"""Read how a model server says, in the headers of its answers, how much it still takes."""

import math
import re
import time
from collections.abc import Mapping

from apps.clients.base import Remaining

PREFIX = "x-ratelimit-"
# As "1h2m3.5s", "6m0s" or "12ms".
DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?$")
UNIT_SECONDS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
# A number as large as these is no duration, but a moment: seconds or milliseconds since 1970.
EPOCH_SECONDS, EPOCH_MILLISECONDS = 1e9, 1e12
COUNT_MAX = 2**40


def read_remaining(headers: Mapping[str, str]) -> Remaining | None:
    """Read x-ratelimit-remaining and -reset, of -requests and -tokens; None where none is told.

    Headers without a suffix mean requests.
    """
    calls = _count(headers, "remaining-requests", "remaining")
    tokens = _count(headers, "remaining-tokens")
    if calls is None and tokens is None:
        return None
    return Remaining(
        calls,
        _duration(headers, "reset-requests", "reset"),
        tokens,
        _duration(headers, "reset-tokens"),
    )


def reset_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until the server counts anew what is used up; None where it says not."""
    remaining = read_remaining(headers)
    if remaining is None:
        return None
    waits = []
    if remaining.calls == 0:
        waits.append(remaining.calls_reset_seconds)
    if remaining.tokens == 0:
        waits.append(remaining.tokens_reset_seconds)
    return max((wait for wait in waits if wait is not None), default=None)


def _count(headers: Mapping[str, str], *names: str) -> int | None:
    for name in names:
        text = headers.get(PREFIX + name, "").strip()
        if text.isascii() and text.isdigit():
            return min(int(text), COUNT_MAX) if len(text) < 20 else COUNT_MAX
    return None


def _duration(headers: Mapping[str, str], *names: str) -> float | None:
    for name in names:
        seconds = seconds_of(headers.get(PREFIX + name, ""))
        if seconds is not None:
            return seconds
    return None


def seconds_of(text: str) -> float | None:
    """Read a duration, or a moment as seconds or milliseconds since 1970; 0 for a past one."""
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        found = DURATION.match(text) if text else None
        if found is None:
            return None
        parts = zip(found.groups(), UNIT_SECONDS, strict=True)
        return sum(float(part) * unit for part, unit in parts if part)
    if not math.isfinite(number):
        return None
    if number >= EPOCH_MILLISECONDS:
        number = number / 1000 - time.time()
    elif number >= EPOCH_SECONDS:
        number -= time.time()
    return max(0.0, number)
