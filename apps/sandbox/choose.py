"""Which runner this machine can be trusted with; found once a process."""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from apps.sandbox.base import Limits, Refusal, Runner
from apps.sandbox.bubblewrap import Bubblewrap
from apps.sandbox.webassembly.runner import WebAssembly

AUTO, NONE = "auto", "none"
# By name, the one to be preferred first.
RUNNERS: dict[str, Callable[[Path], Runner]] = {
    Bubblewrap.name: lambda folder: Bubblewrap(folder, as_root=os.geteuid() == 0),
    WebAssembly.name: WebAssembly,
}
REFUSED_SECONDS = 30  # how long a refusal is believed: a probe may fail on a machine out of breath


@dataclass
class Choice:
    """What the machine's operator decides, and what became of it.

    folder: shared by all processes that run graders. wanted: a runner's name, auto for the first
    that works, or none.
    """

    folder: Path
    wanted: str = AUTO
    limits: Limits = field(default_factory=Limits)
    runner: Runner | None = None
    refusals: tuple[Refusal, ...] = ()
    refused_at: float = -REFUSED_SECONDS
    lock: Lock = field(default_factory=Lock)

    def look(self) -> None:
        with self.lock:
            if self.runner or time.monotonic() - self.refused_at < REFUSED_SECONDS:
                return
            refusals = []
            for name, build in RUNNERS.items():
                if self.wanted not in {AUTO, name}:
                    continue
                runner = build(self.folder)
                refusal = runner.probe()
                if refusal is None:
                    self.runner = runner
                    return
                refusals.append(refusal)
            self.refusals = tuple(dict.fromkeys(refusals))
            self.refused_at = time.monotonic()


_choice = Choice(Path(tempfile.gettempdir()) / f"graders-{os.getuid()}")


def configure(folder: Path, limits: Limits | None = None, wanted: str = AUTO) -> None:
    """Say where the processes of this machine count their graders, and what each of these may use.

    To be called before the first grader runs, in every process alike. Raises ValueError.
    """
    global _choice
    if wanted not in {AUTO, NONE, *RUNNERS}:
        raise ValueError(f"the sandbox is one of {', '.join((AUTO, *RUNNERS, NONE))}")
    _choice = Choice(folder, wanted, limits or Limits())


def limits() -> Limits:
    return _choice.limits


def find_runner() -> Runner | None:
    """The first runner whose probe passes, or None."""
    _choice.look()
    return _choice.runner


def why_none() -> str:
    """What a machine without a runner needs, for whoever can do something about it."""
    _choice.look()
    refused = "; ".join(refusal.message.rstrip(".") for refusal in _choice.refusals)
    tried = f"What was tried: {refused}." if refused else f"SANDBOX is {_choice.wanted}."
    return (
        "Python graders are off: this server has no sandbox to run them in. To enable them, "
        "install bubblewrap (the command bwrap) on Linux and allow it user namespaces "
        "(sysctl user.max_user_namespaces above 0), or run `make sandbox`, which installs and "
        f"warms the WebAssembly runner, for macOS and containers. {tried}"
    )
