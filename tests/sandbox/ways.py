"""The runners that tests are run with."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from apps.sandbox.bubblewrap import Bubblewrap
from apps.sandbox.pool import SandboxPool
from apps.sandbox.webassembly.runner import WebAssembly

# Root offers the first only; it runs the attacks in the other too, which are about the namespace.
NATIVE: dict[str, Callable[[Path], SandboxPool]] = {"user namespace": Bubblewrap}
if os.geteuid() == 0:
    NATIVE["as root"] = partial(Bubblewrap, as_root=True)
WASM: dict[str, Callable[[Path], SandboxPool]] = {"wasm": WebAssembly}
WAYS = NATIVE | WASM

# For what only a Python with an operating system can try, and for what only one without it does.
natively = pytest.mark.parametrize("runner", NATIVE.values(), ids=NATIVE, indirect=True)
in_wasm = pytest.mark.parametrize("runner", WASM.values(), ids=WASM, indirect=True)
