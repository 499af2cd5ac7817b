"""Let no more graders run at once, over all processes of this machine, than it has cores."""

import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

POLL_SECONDS = 0.005
HELD_SECONDS = 0.25


class Slot:
    """A slot among those of this machine, taken with `take` and passed on with `give_way`.

    The slots are locks on files of a folder: a process that dies gives its own back.
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
        """Hold a slot, after waiting for it or, not waiting, if one is free and nobody waits."""
        if self._held is not None:
            return True
        # Waiting happens in a queue, so that who has just released does not come first again.
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
        """Release the slot once it was held for long enough that others should have a turn."""
        if time.monotonic() - self._since > HELD_SECONDS:
            self.release()

    def release(self) -> None:
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
