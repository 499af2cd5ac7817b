"""Start Python once in a WebAssembly machine, and copy that machine for every case.

Between two turns a machine is at rest: it differs from a new one by nothing but its memory. So a
new machine with the started one's memory laid over its own is a copy, made in a third of a
millisecond, and what a case does to its machine ends with it.
"""

import ctypes
import json
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import wasmtime

from apps.sandbox import grading
from apps.sandbox.webassembly.engine import engine
from apps.sandbox.webassembly.system import (
    MASK,
    PAGE_BYTES,
    Exited,
    Memory,
    System,
    Tree,
)

SETUP, NEXT, RESULT = b"S", b"N", b"R"
THANKS = b"."  # answers a result; nobody reads it
GUEST_SETTINGS = ("source", "packages", "offers", "traceback_length")
OK, FAULT = 0, -2
START = "import sys; sys.path.append('/'); from sandbox import guest; sys.path.pop(); guest.start()"
GRADE = "guest.grade()"
WIDE_MASK = (1 << 64) - 1

READ_AND_WRITE = 0x3
PRIVATE_AND_FIXED = 0x12  # the same on Linux and macOS
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_longlong]


class HostCall:
    """The one function of the host that machines can call: for the setup, a case, or a result.

    The grader's code can call it too, so each message is taken once and in this order only.
    """

    memory: Memory
    allocate: Callable[[int], int]

    def __init__(self, setup: dict[str, Any]) -> None:
        self._most_bytes: int = setup["result_bytes"]
        self._expected = SETUP
        self._answer = json.dumps({name: setup[name] for name in GUEST_SETTINGS}).encode()
        self.result: bytes | None = None

    def expect(self, case: bytes) -> None:
        """Give out this case once, and take one result after it."""
        self._expected, self._answer, self.result = NEXT, case, None

    def call(self, at: int, length: int, answer_at: int, answer_length_at: int) -> int:
        """Answer a message that lies in the machine's memory; FAULT for one out of turn."""
        at, length = at & MASK, min(length & MASK, self._most_bytes)
        if not length or self.memory.read(at, 1) != self._expected:
            return FAULT
        answer = self._answer
        if self._expected == RESULT:
            self.result, answer = self.memory.read(at + 1, length - 1), THANKS
        self._expected = RESULT if self._expected == NEXT else b""
        address = self.allocate(len(answer)) & MASK
        if not address:
            return FAULT
        self.memory.write(address, answer)
        self.memory.write_number(answer_at & MASK, address)
        self.memory.write_number(answer_length_at & MASK, len(answer))
        return OK


class Snapshot:
    """A copy of a memory in a nameless file, which other memories map and change privately."""

    def __init__(self, memory: Memory) -> None:
        self.length = memory.length()
        self._file = _nameless_file()
        os.truncate(self._file, self.length)
        empty = bytes(PAGE_BYTES)
        for start in range(0, self.length, PAGE_BYTES):
            page = memory.read(start, PAGE_BYTES)
            if page != empty:
                os.pwrite(self._file, page, start)

    def lay_over(self, memory: Memory) -> None:
        """Map the copy over a memory that is not longer than it. Raises OSError."""
        memory.grow(self.length - memory.length())
        address = memory.address(0, self.length)
        found = LIBC.mmap(address, self.length, READ_AND_WRITE, PRIVATE_AND_FIXED, self._file, 0)
        if found != address:
            raise OSError(ctypes.get_errno(), "the memory of a machine could not be laid over")


class Machine:
    """One instance of Python; its memory is freed on leaving the context."""

    def __init__(
        self, engine: wasmtime.Engine, instance: wasmtime.InstancePre, most_bytes: int
    ) -> None:
        self._store = wasmtime.Store(engine)
        self._store.set_limits(memory_size=most_bytes)
        self._exports = instance.instantiate(self._store).exports(self._store)
        self.memory = Memory(self._store, self._exports["memory"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def allocate(self, length: int) -> int:
        return self._exports["host_alloc"](self._store, length)

    def turn(self, text: str) -> bool:
        """Run Python source; True when it ran to its end. Raises Exited and wasmtime's errors."""
        code = text.encode()
        address = self.allocate(len(code)) & MASK
        if address:  # 0 when memory is short, which the turn then reports itself
            self.memory.write(address, code)
        return self._exports["turn"](self._store, address, len(code)) == 0


class Machines:
    """The machines of one sandbox, one at a time, alike but for their case.

    bytes_of_address_space: what this process had mapped once the first machine had started. Raises
    SystemExit when Python does not start.
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        self._engine = engine()
        module = wasmtime.Module.deserialize_file(self._engine, setup["code"])
        tree = Tree({name: Path(path) for name, path in setup["files"].items()})
        environment = {"PYTHONTZPATH": "", "LANG": "C.UTF-8"}
        self._system = System(tree, ["python"], environment, setup["open_files"])
        self._host_call = HostCall(setup)
        self._most_bytes: int = setup["memory_bytes"]
        self._traceback_length: int = setup["traceback_length"]
        self._instance = self._linked(module)
        with self._machine() as machine:
            if not machine.turn(START):
                raise SystemExit("the grader's Python did not start")
            self._snapshot = Snapshot(machine.memory)
            self._opened = self._system.opened()
            self.bytes_of_address_space = _address_space()

    def grade(self, case: bytes) -> bytes:
        """Grade a case, given as JSON, in a new machine; return its encoded result."""
        self._system.reopen(self._opened)
        self._host_call.expect(case)
        with self._machine() as machine:
            self._snapshot.lay_over(machine.memory)
            ended = "The grader ended its machine."
            try:
                machine.turn(GRADE)
            except Exited as exited:
                ended = f"The grader ended its process (exit status {exited.status})."
            except Exception as error:  # noqa: BLE001  whatever it is, it ends this case alone
                ended = f"The grader's machine broke: {error}"
        if self._host_call.result is not None:
            return self._host_call.result
        return grading.BROKEN + ended.encode(errors="replace")[: self._traceback_length]

    def _machine(self) -> Machine:
        machine = Machine(self._engine, self._instance, self._most_bytes)
        self._system.memory = self._host_call.memory = machine.memory
        self._host_call.allocate = machine.allocate
        return machine

    def _linked(self, module: wasmtime.Module) -> wasmtime.InstancePre:
        linker = wasmtime.Linker(self._engine)
        for wanted in module.imports:
            assert isinstance(wanted.type, wasmtime.FuncType)
            assert wanted.name is not None
            masks = [
                MASK if one == wasmtime.ValType.i32() else WIDE_MASK for one in wanted.type.params
            ]
            is_host_call = wanted.module == "host"
            call = (
                self._host_call.call if is_host_call else self._system.answering(wanted.name, masks)
            )
            answer = call if wanted.type.results else _silently(call)
            linker.define_func(wanted.module, wanted.name, wanted.type, answer)
        return linker.instantiate_pre(module)


def _address_space() -> int:
    """Return the bytes that this process has mapped, or 0 on other systems than Linux."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0


def _silently(call: Callable[..., int]) -> Callable[..., None]:
    def answer(*numbers: int) -> None:
        call(*numbers)

    return answer


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("machine")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
