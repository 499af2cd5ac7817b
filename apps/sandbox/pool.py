"""Keep sandboxes for the cases of one source, and share the cases out among threads."""

import contextlib
import math
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from apps.sandbox.base import TRACEBACK_LENGTH, CallResult, Case, Limits
from apps.sandbox.process import Died, SandboxProcess, Unavailable
from apps.sandbox.slots import Slot

CASES_A_HELPER = 32  # fewer are not worth the start of another sandbox
IDLE_SECONDS = 2.0  # a sandbox without cases holds memory for nothing
Key = tuple[str, Limits]


class Batch:
    """The cases that several threads share: each is taken once. results: by the case's index."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.results: dict[int, CallResult] = {}
        self._left = iter(enumerate(cases))
        self._lock = threading.Lock()

    def next(self) -> tuple[int, Case] | None:
        with self._lock:
            return next(self._left, None)

    def abandon(self, result: CallResult) -> None:
        """Let all cases that nobody has taken end like this."""
        while (taken := self.next()) is not None:
            self.results[taken[0]] = result


@dataclass(frozen=True)
class SandboxPool:
    """A runner that opens sandboxes: a subclass says by which command.

    folder: where the workers of a machine keep count of what runs. idle: sandboxes that wait for
    more cases of their source, since a run's come batch by batch.
    """

    folder: Path
    idle: "IdleSandboxes" = field(
        default_factory=lambda: IdleSandboxes(), compare=False, repr=False
    )

    name = ""

    def packages(self) -> dict[str, str]:
        raise NotImplementedError

    def open(self, source: str, limits: Limits) -> "SandboxProcess":
        """A sandbox that is ready for cases of this source. Raises Unavailable."""
        raise NotImplementedError

    def setup(self, source: str, limits: Limits, **more: Any) -> dict[str, Any]:
        """What every driver is told before the first case."""
        there = ", ".join(f"{name} {version}" for name, version in self.packages().items())
        offers = f"The {self.name} sandbox has Python's standard library and {there}."
        settings = {"source": source, "traceback_length": TRACEBACK_LENGTH, "offers": offers}
        return settings | asdict(limits) | more

    def run(self, source: str, cases: Sequence[Case], limits: Limits) -> list[CallResult]:
        """Call grade() case by case, in further sandboxes too while cores are free."""
        batch = Batch(cases)
        work = partial(self._work, batch, source, limits)
        helpers = min((os.cpu_count() or 1) - 1, len(cases) // CASES_A_HELPER)
        with ThreadPoolExecutor(max(helpers, 1), "grader") as threads:
            done = [threads.submit(work, wait=False) for _ in range(helpers)]
            work(wait=True)
            for future in done:
                future.result()
        return [batch.results[index] for index in range(len(cases))]

    def _work(self, batch: "Batch", source: str, limits: Limits, wait: bool) -> None:
        """Take cases until there are none; a sandbox that one has broken or used is replaced."""
        key = (source, limits)
        sandbox: SandboxProcess | None = None
        with Slot(self.folder) as slot, contextlib.ExitStack() as closing:
            while slot.take(wait) and (taken := batch.next()) is not None:
                index, case = taken
                try:
                    if sandbox is None:
                        sandbox = self.idle.take(key) or self.open(source, limits)
                        closing.callback(sandbox.close)
                    batch.results[index] = sandbox.grade(case, limits)
                except Died:
                    text = "The sandbox ended while it ran this grader."
                    batch.results[index] = CallResult("lost", text=text)
                except Unavailable as error:
                    # The rest would wait as long to learn the same.
                    batch.results[index] = CallResult("unavailable", text=str(error))
                    batch.abandon(batch.results[index])
                if sandbox is not None and not sandbox.clean:
                    closing.close()
                    sandbox = None
                slot.give_way()
            closing.pop_all()
        if sandbox is not None:
            self.idle.put(key, sandbox)


class IdleSandboxes:
    """Sandboxes that nobody uses, each closed when its source has had no case for a while.

    kept: since when, for which source and limits, and the sandbox; who came first is first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.kept: list[tuple[float, Key, SandboxProcess]] = []
        self._sweep: threading.Timer | None = None

    def take(self, key: Key) -> SandboxProcess | None:
        """One for this source that can go on, the last used first."""
        with self._lock:
            for index in reversed(range(len(self.kept))):
                _, held, sandbox = self.kept[index]
                if held == key and sandbox.is_alive():
                    del self.kept[index]
                    return sandbox
        return None

    def put(self, key: Key, sandbox: SandboxProcess) -> None:
        with self._lock:
            self.kept.append((time.monotonic(), key, sandbox))
            surplus = self.kept[: -(os.cpu_count() or 1)]
            del self.kept[: len(surplus)]
            self._look_again()
        for _, _, sandbox in surplus:
            sandbox.close()

    def clear(self, since: float = math.inf) -> None:
        """Close those that came before this moment."""
        with self._lock:
            old = [sandbox for came, _, sandbox in self.kept if came < since]
            self.kept = [kept for kept in self.kept if kept[0] >= since]
            self._sweep = None
            self._look_again()
        for sandbox in old:
            sandbox.close()

    def _look_again(self) -> None:
        if self.kept and self._sweep is None:
            self._sweep = threading.Timer(IDLE_SECONDS, self._clear_idle)
            self._sweep.daemon = True
            self._sweep.start()

    def _clear_idle(self) -> None:
        self.clear(time.monotonic() - IDLE_SECONDS)
