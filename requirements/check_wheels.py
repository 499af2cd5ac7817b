"""Prove that every pin has a wheel, with a hash that is locked, for each system and Python we name.

    .venv/bin/python requirements/check_wheels.py [--files base parquet] [--pythons 3.14]

Asks the package index that pip is set up for, and downloads no more than it must.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pip._vendor.packaging.markers import Marker, default_environment
from pip._vendor.packaging.specifiers import SpecifierSet

HERE = Path(__file__).resolve().parent
FILES = ("base", "parquet", "sandbox", "dev")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# Of each system what pip is to take, and what the markers of a lock file may ask about.
GLIBC = range(5, 29)
# Built from their source wherever they are installed; none is for more than tests.
SDISTS = {"rouge-score"}
SYSTEMS = {
    "Linux x86_64": (
        ["linux_x86_64", "manylinux2014_x86_64", *(f"manylinux_2_{n}_x86_64" for n in GLIBC)],
        {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    ),
    "Linux arm64": (
        ["linux_aarch64", "manylinux2014_aarch64", *(f"manylinux_2_{n}_aarch64" for n in GLIBC)],
        {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    ),
    "macOS arm64": (
        ["macosx_14_0_arm64"],
        {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
    ),
}


def read(name: str) -> list[tuple[str, str, set[str]]]:
    """Each pin of a lock file, its marker and its hashes."""
    text = (HERE / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement, *hashes = re.split(r"\s+--hash=sha256:", line.split(" #")[0].strip())
            pin, _, marker = requirement.partition(";")
            found.append((pin.strip(), marker.strip(), {one.strip() for one in hashes}))
    return found


def pins_of(files: list[str], python: str, about: dict[str, str]) -> dict[str, set[str]]:
    """A pin: what is installed there, with the hashes that it may have."""
    environment = {
        **default_environment(),
        **about,
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "python_version": python,
        "python_full_version": f"{python}.0",
        "extra": "",
    }
    return {
        pin: hashes
        for name in files
        for pin, marker, hashes in read(name)
        if pin.partition("==")[0] not in SDISTS
        and (not marker or Marker(marker).evaluate(environment))
    }


@dataclass(frozen=True)
class Wheel:
    digest: str
    requires_python: str


def resolve(pins: list[str], python: str, platforms: list[str]) -> tuple[dict[str, Wheel], str]:
    """The wheel of each pin, or pip's complaint when it finds one to have none."""
    with tempfile.TemporaryDirectory() as folder:
        report, wanted = Path(folder) / "report.json", Path(folder) / "wanted.txt"
        wanted.write_text("\n".join(pins), encoding="utf-8")
        done = subprocess.run(  # noqa: S603 - the command is ours
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps"),
                # Of the Python that runs pip; that of the target is compared below.
                "--ignore-requires-python",
                *("--disable-pip-version-check", "--ignore-installed", "--target", folder),
                *("--only-binary", ":all:", "--implementation", "cp", "--python-version", python),
                *(word for one in platforms for word in ("--platform", one)),
                *("--report", str(report), "--requirement", str(wanted)),
            ],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if not report.exists():
            return {}, done.stderr
        told = json.loads(report.read_text(encoding="utf-8"))["install"]
        return {
            normal(f"{one['metadata']['name']}=={one['metadata']['version']}"): Wheel(
                one["download_info"]["archive_info"]["hashes"]["sha256"],
                one["metadata"].get("requires_python", ""),
            )
            for one in told
        }, ""


def normal(pin: str) -> str:
    name, _, version = re.sub(r"\[.*?\]", "", pin).partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"


def faults_of(pins: dict[str, set[str]], python: str, platforms: list[str]) -> list[str]:
    """The pins that have no wheel there, or one that is not locked."""
    faults: list[str] = []
    left = dict(pins)
    while True:
        found, complaint = resolve(list(left), python, platforms)
        if found or not left:
            break
        missing = re.search(r"No matching distribution found for (\S+)", complaint)
        if missing is None or missing[1] not in left:
            raise SystemExit(complaint)
        faults.append(f"{missing[1]} has no wheel")
        del left[missing[1]]
    for pin, locked in left.items():
        wheel = found.get(normal(pin))
        if wheel is None:
            faults.append(f"{pin} is not resolved")
        elif wheel.digest not in locked:
            faults.append(f"{pin} has a wheel that is not locked")
        elif f"{python}.0" not in SpecifierSet(wheel.requires_python):
            faults.append(f"{pin} requires Python {wheel.requires_python}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--pythons", nargs="+", choices=PYTHONS, default=list(PYTHONS))
    options = parser.parse_args()
    failed = 0
    for system, (platforms, about) in SYSTEMS.items():
        for python in options.pythons:
            pins = pins_of(options.files, python, about)
            faults = faults_of(pins, python, platforms)
            failed += len(faults)
            verdict = "; ".join(faults) or "all have wheels"
            sys.stdout.write(f"{system:13} CPython {python}  {len(pins):3} pins  {verdict}\n")
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
