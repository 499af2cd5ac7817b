"""The process that holds the machine: starts it once and forks for every case.

A case's process inherits the machine as it waits for a case, with memory of its own from there on,
so that no case sees another or changes anything for it. The host that asked kills the process when
it is late. It runs one thread and none of wasmtime's system calls, which keep threads: it is what
makes a fork of wasmtime sound. It imports little, since what it holds is copied for every case.
"""

import gc
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import wasmtime

from apps.evaluations.sandbox import driver, grading
from apps.evaluations.sandbox.webassembly.engine import engine
from apps.evaluations.sandbox.webassembly.system import Memory, System, Tree

SETUP, NEXT, RESULT = b"S", b"N", b"R"
TOLD = ("source", "packages", "offers", "traceback_length")
OK, FAULT = 0, -2
SIGKILL = signal.SIGKILL.value
START = "import sys; sys.path.append('/'); from sandbox.guest import main; sys.path.pop(); main()"
# What the host itself may still take for a case, besides the machine's memory.
HOST_BYTES = 512 << 20
MASK = 0xFFFF_FFFF


class Door:
    """The machine's one call to its host: for the setup, for a case, with the result."""

    memory: Memory
    allocate: Callable[[int], int]

    def __init__(self, control: socket.socket, setup: dict[str, Any]) -> None:
        self._control = control
        self._setup = setup
        self.case: tuple[int, int] | None = None

    def call(self, at: int, length: int, answer_at: int, answer_length_at: int) -> int:
        asked = self.memory.read(at & MASK, 1)
        if asked == SETUP and self.case is None:
            answer = json.dumps({name: self._setup[name] for name in TOLD}).encode()
        elif asked == NEXT and self.case is None:
            answer = self._next_case()
        elif asked == RESULT and self.case is not None:
            length = min(length & MASK, self._setup["result_bytes"])
            self.end(self.memory.read((at & MASK) + 1, length - 1))
        else:
            return FAULT
        place = self.allocate(len(answer)) & MASK
        if not place:
            return FAULT
        self.memory.write(place, answer)
        self.memory.write_number(answer_at & MASK, place)
        self.memory.write_number(answer_length_at & MASK, len(answer))
        return OK

    def end(self, result: bytes) -> None:
        """Send the case's result and be gone."""
        assert self.case is not None
        case_from, result_to = self.case
        message = driver.read_exactly(case_from, driver.NONCE_BYTES) + result
        while message:
            message = message[os.write(result_to, message) :]
        os._exit(0)

    def _next_case(self) -> bytes:
        """Fork for every case; only the child returns, with what it is to be given."""
        wall = Wall()
        wall.limit()
        # Whatever is touched after a fork is copied: no counting through, no collecting.
        gc.disable()
        gc.freeze()
        self._control.send(driver.READY)
        while True:
            order, pipes, _, _ = socket.recv_fds(self._control, 1, 2)
            if not order:
                os._exit(0)
            child = os.fork()
            if child == 0:
                self._control.close()
                case_from, _ = self.case = (pipes[0], pipes[1])
                wall.close()
                [length] = driver.LENGTH.unpack(driver.read_exactly(case_from, driver.LENGTH.size))
                return driver.read_exactly(case_from, length)
            for pipe in pipes:
                os.close(pipe)
            asked = self._control.recv(1)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if not asked:
                os._exit(0)
            self._control.send(driver.REPORT.pack(status, True))


class Wall:
    """A second wall, should the machine have a hole: no process, no socket, no file, little memory.

    On Linux only, for what is built for each case; nothing leans on it.
    """

    def __init__(self) -> None:
        machine = os.uname().machine
        self._steps: driver.Program | None = None
        if sys.platform == "linux" and machine in driver.CALLS:
            self._steps = driver.steps_of(driver.seccomp_program(machine))

    def limit(self) -> None:
        """Put this process and its children under limits."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        if sys.platform == "linux":
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + HOST_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def close(self) -> None:
        """Close it around this process, for good. Kept short: it is done for every case."""
        if self._steps is not None:
            driver.prctl(driver.PR_SET_PDEATHSIG, SIGKILL)
            driver.filter_calls(self._steps)


def run(control: socket.socket, setup: dict[str, Any]) -> None:
    """Run the machine from its start; returns when it ends without a result."""
    store = wasmtime.Store(engine())
    store.set_limits(memory_size=setup["memory_bytes"])
    module = wasmtime.Module.deserialize_file(store.engine, setup["code"])
    files = {name: Path(path) for name, path in setup["files"].items()}
    system = System(
        Tree(files),
        ["python", "-c", START],
        {"PYTHONTZPATH": "", "LANG": "C.UTF-8"},
        setup["open_files"],
    )
    door = Door(control, setup)
    linker = wasmtime.Linker(store.engine)
    for wanted in module.imports:
        assert isinstance(wanted.type, wasmtime.FuncType)
        assert wanted.name is not None
        masks = [
            MASK if one == wasmtime.ValType.i32() else (1 << 64) - 1 for one in wanted.type.params
        ]
        call = door.call if wanted.module == "host" else system.answering(wanted.name, masks)
        answer = call if wanted.type.results else _silently(call)
        linker.define_func(wanted.module, wanted.name, wanted.type, answer)
    exports = linker.instantiate(store, module).exports(store)
    memory = Memory(store, exports["memory"])
    system.memory = door.memory = memory
    door.allocate = lambda length: exports["host_alloc"](store, length)
    try:
        if "_initialize" in exports:
            exports["_initialize"](store)
        exports["run"](store)
    except Exception as error:  # noqa: BLE001  whatever it is, it ends this case alone
        ended = f"The grader's machine broke: {error}"
    else:
        ended = "The grader ended its machine."
    if door.case is None:
        raise SystemExit(ended)
    door.end(grading.BROKEN + ended.encode(errors="replace")[: setup["traceback_length"]])


def _silently(call: Callable[..., int]) -> Callable[..., None]:
    def answer(*numbers: int) -> None:
        call(*numbers)

    return answer


def main() -> None:
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    [length] = driver.LENGTH.unpack(driver.read_exactly(control.fileno(), driver.LENGTH.size))
    setup = json.loads(driver.read_exactly(control.fileno(), length))
    if sys.platform == "linux":
        driver.prctl(driver.PR_SET_PDEATHSIG, signal.SIGKILL.value)
    run(control, setup)
