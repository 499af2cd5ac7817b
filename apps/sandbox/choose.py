"""Choose the runner for this machine: the first that passes its probe, found once a process."""

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
# By name, in the order in which they are tried.
RUNNERS: dict[str, Callable[[Path], Runner]] = {
    Bubblewrap.name: lambda folder: Bubblewrap(folder, as_root=os.geteuid() == 0),
    WebAssembly.name: WebAssembly,
}
REFUSED_SECONDS = 30  # how long a refusal is believed: a probe may fail on a machine out of breath


@dataclass
class Choice:
    """The operator's settings, and the runner that was found by them.

    folder: shared by all processes that run graders. wanted: a runner's name, `auto` for the first
    that works, or `none`. refusals: why no runner was found, as of the monotonic time refused_at.
    """

    folder: Path
    wanted: str = AUTO
    limits: Limits = field(default_factory=Limits)
    runner: Runner | None = None
    refusals: tuple[Refusal, ...] = ()
    refused_at: float = -REFUSED_SECONDS
    lock: Lock = field(default_factory=Lock)

    def probe(self) -> None:
        """Probe the runners, unless one was found or a refusal is still believed."""
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
    """Set the folder that counts running graders, the limits of each, and the runner to use.

    Every process that runs graders calls this once, with the same values, before the first of
    them. Raises ValueError for an unknown runner.
    """
    global _choice
    if wanted not in {AUTO, NONE, *RUNNERS}:
        raise ValueError(f"the sandbox is one of {', '.join((AUTO, *RUNNERS, NONE))}")
    _choice = Choice(folder, wanted, limits or Limits())


def limits() -> Limits:
    """Return the limits of one call of grade() on this machine."""
    return _choice.limits


def find_runner() -> Runner | None:
    """Return the first runner whose probe passes, or None; `why_no_runner` then says why."""
    _choice.probe()
    return _choice.runner


def why_no_runner() -> str:
    """Explain to the operator of a machine without a runner how to get one."""
    _choice.probe()
    refused = "; ".join(refusal.message.rstrip(".") for refusal in _choice.refusals)
    tried = f"What was tried: {refused}." if refused else f"SANDBOX is {_choice.wanted}."
    return (
        "Python graders are off: this server has no sandbox to run them in. To enable them, "
        "install bubblewrap (the command bwrap) on Linux and allow it user namespaces "
        "(sysctl user.max_user_namespaces above 0), or run `make sandbox`, which installs and "
        f"warms the WebAssembly runner, for macOS and containers. {tried}"
    )
