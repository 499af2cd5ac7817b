"""Keep in this process what cannot change any more, within a bound of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Kept(Generic[V]):
    """Values by their keys, at most so many bytes of them; what was unused longest goes first.

    Only for what stays as it is for as long as its key is asked for: nothing is ever refreshed.
    Threads may share it.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.byte_count = 0
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> V | None:
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Keep a value that takes about `size` bytes, unless it alone would fill a quarter."""
        if size > self.max_bytes // 4:
            return
        with self._lock:
            if key in self._values:
                self.byte_count -= self._values.pop(key)[1]
            self._values[key] = (value, size)
            self.byte_count += size
            while self.byte_count > self.max_bytes:
                _, (_, gone) = self._values.popitem(last=False)
                self.byte_count -= gone

    def get_or_make(self, key: Hashable, make: Callable[[], tuple[V, int]]) -> V:
        """Return the value of this key; `make` makes a missing one, with its size."""
        found = self.get(key)
        if found is None:
            found, size = make()
            self.put(key, found, size)
        return found

    def forget(self) -> None:
        """Keep nothing any more."""
        with self._lock:
            self._values.clear()
            self.byte_count = 0
