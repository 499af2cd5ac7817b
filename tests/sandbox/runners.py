"""The runners that tests are run with, and the marks that choose among them."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from apps.sandbox.bubblewrap import Bubblewrap
from apps.sandbox.pool import SandboxPool
from apps.sandbox.webassembly.runner import WebAssembly

Build = Callable[[Path], SandboxPool]

# A server of root's uses the second. Root tests the first too, which other users' servers use.
NATIVE: dict[str, Build] = {"user namespace": Bubblewrap}
if os.geteuid() == 0:
    NATIVE["as root"] = partial(Bubblewrap, as_root=True)
OWN = dict([list(NATIVE.items())[-1]])  # what a server here would use
WASM: dict[str, Build] = {"wasm": WebAssembly}


def _with(runners: dict[str, Build]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("runner", runners.values(), ids=runners, indirect=True)


# One of each kind is enough for what the driver and the host decide: scores, limits, results.
EACH_KIND = OWN | WASM
# What the user, its privileges or the mounts decide is tried as every user.
as_every_user = _with(NATIVE | WASM)
# What only a Python with an operating system can try, once or as every user.
natively = _with(OWN)
natively_as_every_user = _with(NATIVE)
# What only a Python without an operating system can try.
in_wasm = _with(WASM)
