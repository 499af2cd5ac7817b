"""Bound how often a wrong password may be tried, in the memory of one web process."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from threading import Lock

KEYS_KEPT = 10_000


class Attempts:
    """A limit of failures for a key within `seconds`.

    Beyond KEYS_KEPT keys the one that failed longest ago is forgotten, so that guessing addresses
    cannot fill the memory.
    """

    def __init__(
        self, limit: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._failures: OrderedDict[Hashable, deque[float]] = OrderedDict()
        self._lock = Lock()

    def wait(self, key: Hashable) -> float:
        """Return the seconds until the key may be tried again, 0 when it may now."""
        with self._lock:
            failures = self._failures.get(key)
            if failures is None or len(failures) < self._limit:
                return 0.0
            return max(0.0, failures[0] + self._seconds - self._clock())

    def fail(self, key: Hashable) -> None:
        with self._lock:
            self._failures.setdefault(key, deque(maxlen=self._limit)).append(self._clock())
            self._failures.move_to_end(key)
            if len(self._failures) > KEYS_KEPT:
                self._failures.popitem(last=False)

    def forget(self, key: Hashable) -> None:
        with self._lock:
            self._failures.pop(key, None)
