"""The interface of the runners of untrusted Python, and the probe that a runner must pass."""

import json
import math
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

LONGEST_SECONDS = 120
LEAST_MEMORY_BYTES = 256 << 20  # an interpreter and numpy want as much before any grader does
TRACEBACK_LENGTH = 4000


@dataclass(frozen=True)
class Limits:
    """The most that one call of grade() may use; each count is of the call's own process.

    disk_bytes: all that it may write to /tmp, where the runner has one. result_bytes: all that it
    may write to the pipe that carries its result, forged results included. Raises ValueError for
    times that the contract does not allow and for memory in which no interpreter starts.
    Source: docs/contracts/openai.md, section 13.3.
    """

    seconds: float = 10
    memory_bytes: int = 2 << 30
    disk_bytes: int = 64 << 20
    result_bytes: int = 64 << 10
    open_files: int = 64
    threads: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= LONGEST_SECONDS:
            raise ValueError(f"a grader has more than 0 and at most {LONGEST_SECONDS} seconds")
        if self.memory_bytes < LEAST_MEMORY_BYTES:
            raise ValueError(f"a grader has at least {LEAST_MEMORY_BYTES:,} bytes of memory")


@dataclass(frozen=True, slots=True)
class Case:
    """The two arguments of one call of grade(), as JSON objects."""

    sample: Mapping[str, Any]
    item: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CallResult:
    """The end of one call of grade().

    scored: it returned `value`, a finite number. raised: `text` is its traceback, or says what is
    wrong with the value it returned. lost: a limit or the grader itself ended the process; `text`
    says which. unavailable: it was not called, because no sandbox could be started; `text` says
    why.
    """

    end: Literal["scored", "raised", "lost", "unavailable"]
    value: float = 0.0
    text: str = ""

    @classmethod
    def scored(cls, value: float) -> Self:
        """Build the result of a call that returned this; raised unless it is finite."""
        if math.isfinite(value):
            return cls("scored", value)
        return cls("raised", text=f"grade() returned {value}, which is no finite number.")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a runner cannot be used on this machine, as a sentence."""

    message: str


class Runner(Protocol):
    """A kind of sandbox: bubblewrap or WebAssembly."""

    name: str

    def probe(self) -> Refusal | None:
        """Run a grader that tries to break out. None when it cannot, else the reason to refuse."""

    def packages(self) -> dict[str, str]:
        """Return the distributions that graders may import here, with their versions."""

    def run(self, source: str, cases: Sequence[Case], limits: Limits) -> list[CallResult]:
        """Call the source's grade() once for each case, and return the results in that order.

        No call can read or change anything of another case. Never raises for what a grader does.
        """


PROBE = """
import os, socket

REFUSED = (OSError, AttributeError)  # a Python may lack the call

def opens(path):
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError:
        return False
    return True

def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except REFUSED:
        return False
    return True

def writes(folder):
    try:
        os.close(os.open(folder + "/probe", os.O_CREAT | os.O_WRONLY))
    except OSError:
        return False
    return True

def forks():
    try:
        child = os.fork()
    except REFUSED:
        return False
    if child == 0:
        os._exit(0)
    return True

def grade(sample, item):
    found = [path for path in item["paths"] if opens(path)]
    found += [folder for folder in item["folders"] if writes(folder)]
    found += [name for name in item["names"] if name in os.environ]
    if connects(item["port"]):
        found.append("the loopback interface")
    if forks():
        found.append("further processes")
    if found:
        raise AssertionError("within reach: " + ", ".join(found))
    return sample["expected"]
"""
PROBE_SCORE = 0.25


def probe(runner: Runner) -> Refusal | None:
    """Run a grader that looks for files, variables and a port which this process can reach.

    None when it finds none of them and its score arrives; else what it found, or how it ended.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        item = {
            "paths": ["/etc/passwd", "/proc/self/environ", "/proc/1/environ", __file__],
            "folders": ["/", "/dev", "/etc", "/usr/lib", str(Path(__file__).parent)],
            "names": sorted(set(os.environ) - {"HOME", "LANG", "PATH", "PWD"}),
            "port": server.getsockname()[1],
        }
        case = Case({"expected": PROBE_SCORE}, json.loads(json.dumps(item)))
        [result] = runner.run(PROBE, [case], Limits())
    if result == CallResult.scored(PROBE_SCORE):
        return None
    return Refusal(result.text.strip() or f"the probe ended as {result.end} with {result.value}")
