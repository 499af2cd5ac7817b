"""Compile the WebAssembly Python to machine code, for `make sandbox`.

That takes a minute or two and over 2 GiB of memory, so no server or worker ever does it.
"""

import hashlib
import os
import sys
import time

import wasmtime

from apps.sandbox.webassembly import image
from apps.sandbox.webassembly.engine import engine


def main() -> None:
    """Compile unless it is done already; raises SystemExit for a file that is not as released."""
    path = image.compiled()
    if path.exists():
        sys.stdout.write(f"The WebAssembly runner is warm: {path}\n")
        return
    began = time.monotonic()
    source = image.part(image.SNAPSHOT).read_bytes()
    if hashlib.sha256(source).hexdigest() != image.digest(image.SNAPSHOT):
        raise SystemExit("the WebAssembly Python is not as it was released; install it again")
    sys.stdout.write("Compiling Python to machine code: a minute or two, over 2 GiB of memory\n")
    sys.stdout.flush()
    code = wasmtime.Module(engine(), source).serialize()
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(f".{os.getpid()}")
    half.write_bytes(code)
    for old in path.parent.glob("*.cwasm"):
        old.unlink()
    half.replace(path)
    seconds = time.monotonic() - began
    sys.stdout.write(f"Compiled in {seconds:.0f} s, {len(code) >> 20} MiB: {path}\n")


if __name__ == "__main__":
    main()
