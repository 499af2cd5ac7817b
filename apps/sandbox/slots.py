"""Limit the graders that run at once, over all processes of this machine, to its cores."""

import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

POLL_SECONDS = 0.005
HELD_SECONDS = 0.25  # shorter turns would cost more in waiting than they share out


class Slot:
    """Permission to run one grader: taken with `take`, let go with `give_way` and `release`.

    folder: the same for all processes. count: how many may run, by default one a core. A slot is
    a lock on a file there, so the kernel frees it when its process dies.
    """

    def __init__(self, folder: Path, count: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.count = count or os.cpu_count() or 1
        self._held: int | None = None
        self._since = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def take(self, wait: bool = True) -> bool:
        """Take a slot and return True; without `wait` only if one is free and nobody waits."""
        if self._held is not None:
            return True
        # Only the holder of the queue's lock looks for a slot. Else the process that has just
        # released one would be the quickest to take it again.
        with self._locked("queue", wait) as queue:
            if queue is None:
                return False
            self._held = self._free_slot()
            while wait and self._held is None:
                time.sleep(POLL_SECONDS)
                self._held = self._free_slot()
        self._since = time.monotonic()
        return self._held is not None

    def give_way(self) -> None:
        """Release the slot if it was held for more than HELD_SECONDS, so that others get a turn."""
        if time.monotonic() - self._since > HELD_SECONDS:
            self.release()

    def release(self) -> None:
        """Let the slot go, if one is held."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _free_slot(self) -> int | None:
        for number in random.sample(range(self.count), self.count):
            if (slot := self._lock(f"slot-{number}", wait=False)) is not None:
                return slot
        return None

    @contextmanager
    def _locked(self, name: str, wait: bool) -> Iterator[int | None]:
        lock = self._lock(name, wait)
        try:
            yield lock
        finally:
            if lock is not None:
                os.close(lock)

    def _lock(self, name: str, wait: bool) -> int | None:
        file = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(file)
            return None
        return file
