"""The runner of machines without bubblewrap."""

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
# Without what this package's own first lines import: the less there is, the sooner it starts.
START = f"""
import sys, types
sys.path.insert(0, {str(ROOT)!r})
package = sys.modules["apps.sandbox"] = types.ModuleType("apps.sandbox")
package.__path__ = [{str(Path(__file__).parents[1])!r}]
from apps.sandbox.webassembly.host import main
main()
"""


class Host(SandboxProcess):
    """A process that runs case after case, each in a new machine, and is killed with a late one."""

    def end_case(self, exchange: CaseExchange, limits: Limits) -> int:
        if exchange.is_whole(limits):
            return 0
        self.clean = False
        if not exchange.said and not exchange.late:  # it ends by itself, and how tells why
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(DRIVER_SECONDS)
        self.process.kill()
        return self.process.wait()


@dataclass(frozen=True)
class WebAssembly(SandboxPool):
    """Python in WebAssembly: it reads a library and asks for the time, and that is all it can do.

    Every sandbox is a process that has a new machine for every case.
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
        # Nothing of this process's environment, which it would only have to hide.
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
