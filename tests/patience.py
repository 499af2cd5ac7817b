"""Wait in tests for what ought to happen: generously, and longer on a slow machine.

No test passes or fails by the machine's speed. What is promised in seconds is measured by the fault
command (`python -m tests.faults`) and the benchmarks.
"""

import os
import time
from collections.abc import Callable

# The figure that a session measures at its start, for the processes that share its tests.
ENVIRONMENT = "EVALPLATFORM_TESTS_SLOWNESS"
REFERENCE_SECONDS = 0.025  # what the work below takes on a quick machine that idles
MOST = 20.0  # so that a wait in vain ends, whatever was measured
# Between two looks: a tenth of the time that was waited already. What is waited for is slowed by
# those who look, often a server that answers them.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 0.3
# Waiting costs only where a test fails, and a machine may get busier after it was measured.
GENEROSITY = 4.0


def slowness() -> float:
    """Return how much slower than a quick machine this one was at the start: 1 to 20 times."""
    if ENVIRONMENT not in os.environ:
        os.environ[ENVIRONMENT] = f"{min(max(_work_seconds() / REFERENCE_SECONDS, 1.0), MOST):.2f}"
    return float(os.environ[ENVIRONMENT])


def _work_seconds() -> float:
    """Time a small fixed piece of work three times; return the longest, in seconds."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        words: dict[str, int] = {}
        for number in range(100_000):
            words[f"word {number % 1_000}"] = number
        took.append(time.perf_counter() - began)
    return max(took)


def patience(seconds: float) -> float:
    """So long may be waited on this machine for what takes `seconds` at the most on a quick one."""
    return seconds * slowness() * GENEROSITY


def wait_until(true: Callable[[], object], seconds: float = 10, what: object = "it") -> float:
    """Wait for `true()` and return how many seconds it took.

    Fails the test when it does not come within `patience(seconds)`; `what` is named then, or what
    it returns.
    """
    began = time.monotonic()
    ends_at = began + patience(seconds)
    while not true():
        if time.monotonic() > ends_at:
            named = what() if callable(what) else what
            raise AssertionError(f"{named}: not within {patience(seconds):.0f} s")
        waited = time.monotonic() - began
        time.sleep(min(max(SHORTEST_PAUSE, waited / 10), LONGEST_PAUSE))
    return time.monotonic() - began
