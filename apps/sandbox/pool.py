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
    """The cases that several threads share, each taken once, and their results by index."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.results: dict[int, CallResult] = {}
        self._left = iter(enumerate(cases))
        self._lock = threading.Lock()

    def next(self) -> tuple[int, Case] | None:
        """Take the next case with its index; None when all are taken."""
        with self._lock:
            return next(self._left, None)

    def abandon(self, result: CallResult) -> None:
        """Give this result to all cases that nobody has taken yet."""
        while (taken := self.next()) is not None:
            self.results[taken[0]] = result


@dataclass(frozen=True)
class SandboxPool:
    """A runner that grades in sandbox processes; a subclass knows the command that starts one.

    folder: holds the lock files by which all workers of a machine count their running graders.
    idle: sandboxes that wait for more cases of their source, since a run's cases come in batches.
    """

    folder: Path
    idle: "IdleSandboxes" = field(
        default_factory=lambda: IdleSandboxes(), compare=False, repr=False
    )

    name = ""

    def packages(self) -> dict[str, str]:
        raise NotImplementedError

    def open(self, source: str, limits: Limits) -> "SandboxProcess":
        """Start a sandbox that is ready for cases of this source. Raises Unavailable."""
        raise NotImplementedError

    def setup(self, source: str, limits: Limits, **more: Any) -> dict[str, Any]:
        """Return the settings that every driver reads before its first case."""
        there = ", ".join(f"{name} {version}" for name, version in self.packages().items())
        offers = f"The {self.name} sandbox has Python's standard library and {there}."
        settings = {"source": source, "traceback_length": TRACEBACK_LENGTH, "offers": offers}
        return settings | asdict(limits) | more

    def run(self, source: str, cases: Sequence[Case], limits: Limits) -> list[CallResult]:
        """Call grade() case by case, in this thread and in helpers while cores are free.

        One sandbox always waits for its slot, so the batch is graded however busy the machine is.
        """
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
        """Take cases until there are none, replacing the sandbox after a case that soiled it.

        wait: whether to wait for a slot of the machine, or to leave when none is free.
        """
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
    """Clean sandboxes between two batches, closed after IDLE_SECONDS without one.

    kept: the monotonic time of arrival, the source and limits, and the sandbox; oldest first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.kept: list[tuple[float, Key, SandboxProcess]] = []
        self._sweep: threading.Timer | None = None

    def take(self, key: Key) -> SandboxProcess | None:
        """Take out a living sandbox of this source and these limits, the last used first."""
        with self._lock:
            for index in reversed(range(len(self.kept))):
                _, held, sandbox = self.kept[index]
                if held == key and sandbox.is_alive():
                    del self.kept[index]
                    return sandbox
        return None

    def put(self, key: Key, sandbox: SandboxProcess) -> None:
        """Keep the sandbox; the oldest are closed when there are more than cores."""
        with self._lock:
            self.kept.append((time.monotonic(), key, sandbox))
            surplus = self.kept[: -(os.cpu_count() or 1)]
            del self.kept[: len(surplus)]
            self._look_again()
        for _, _, sandbox in surplus:
            sandbox.close()

    def clear(self, since: float = math.inf) -> None:
        """Close the sandboxes that arrived before this monotonic time."""
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
