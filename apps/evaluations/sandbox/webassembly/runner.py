"""The runner of machines without bubblewrap."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from apps.evaluations.sandbox.base import Limits, Refusal, probe
from apps.evaluations.sandbox.boxes import Box, Boxes, Unavailable
from apps.evaluations.sandbox.webassembly import image

ROOT = Path(__file__).parents[4]
# Without what this package's own first lines import: the less a host holds, the sooner it forks.
START = f"""
import sys, types
sys.path.insert(0, {str(ROOT)!r})
package = sys.modules["apps.evaluations.sandbox"] = types.ModuleType("apps.evaluations.sandbox")
package.__path__ = [{str(Path(__file__).parents[1])!r}]
from apps.evaluations.sandbox.webassembly.host import main
main()
"""


@dataclass(frozen=True)
class WebAssembly(Boxes):
    """Python in WebAssembly: it reads a library and asks for the time, and that is all it can do.

    Every sandbox is a process of its own that holds one machine, and every case a fork of it.
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

    def open(self, source: str, limits: Limits) -> Box:
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
        return Box(command, setup, environment)
