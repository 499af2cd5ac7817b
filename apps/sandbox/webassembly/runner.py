"""Run graders in Python compiled to WebAssembly, for macOS and containers."""

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from apps.sandbox.base import Limits, Refusal, probe
from apps.sandbox.pool import SandboxPool
from apps.sandbox.process import DRIVER_SECONDS, CaseExchange, SandboxProcess, Unavailable
from apps.sandbox.webassembly import image

ROOT = Path(__file__).parents[3]
# Replaces apps.sandbox by an empty package, whose own imports would make the start slower.
START = f"""
import sys, types
sys.path.insert(0, {str(ROOT)!r})
package = sys.modules["apps.sandbox"] = types.ModuleType("apps.sandbox")
package.__path__ = [{str(Path(__file__).parents[1])!r}]
from apps.sandbox.webassembly.host import main
main()
"""


class Host(SandboxProcess):
    """A process that gives every case a new machine; it is killed when a case does not end well."""

    def end_case(self, exchange: CaseExchange, limits: Limits) -> int:
        if exchange.is_complete(limits):
            return 0
        self.clean = False
        # Without output it ends by itself, and its exit code says why.
        if not exchange.output and not exchange.late:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(DRIVER_SECONDS)
        self.process.kill()
        return self.process.wait()


@dataclass(frozen=True)
class WebAssembly(SandboxPool):
    """The runner for machines without bubblewrap, once `make sandbox` has compiled Python.

    The Python inside can read its library and the time, and nothing else. A sandbox is a process
    that gives every case a new machine.
    """

    name = "wasm"

    def probe(self) -> Refusal | None:
        try:
            image.warmed()
        except image.Missing as missing:
            return Refusal(str(missing))
        return probe(self)

    def packages(self) -> dict[str, str]:
        return image.versions()

    def open(self, source: str, limits: Limits) -> SandboxProcess:
        # Empty of our own variables: what the process does not have it need not hide.
        environment = {"LANG": "C.UTF-8", "PATH": os.defpath}
        command = [sys.executable, "-I", "-B", "-X", "utf8", "-c", START]
        try:
            setup = self.setup(
                source,
                limits,
                packages=image.PACKAGES,
                code=str(image.warmed()),
                files=image.files(),
            )
        except image.Missing as missing:
            raise Unavailable(str(missing)) from missing
        return Host(command, setup, environment)
