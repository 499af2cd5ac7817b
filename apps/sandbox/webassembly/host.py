"""Run in a process of its own: start one WebAssembly machine, and copy it for every case.

Nothing in this process can interrupt a running machine. The worker that started the process kills
it when a case is late.
"""

import json
import math
import os
import resource
import signal
import socket
import sys
from typing import Any

from apps.sandbox import driver
from apps.sandbox.webassembly.machine import Machines

# The memory that this process may take for a case, beside the machine's own.
HOST_BYTES = 512 << 20
ORPHAN_SECONDS = 10  # after a case's time: the worker that should have killed this is gone


def build_wall(bytes_of_address_space: int) -> None:
    """Take processes, sockets, files and memory from this process, should a machine have a hole.

    A second line of defence, whole on Linux only: the sandbox is safe without it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (bytes_of_address_space, bytes_of_address_space))
        if (machine := os.uname().machine) in driver.CALLS:
            driver.filter_calls(driver.steps_of(driver.seccomp_program(machine)))


def work(control: socket.socket, setup: dict[str, Any]) -> None:
    """Send READY, then grade case after case until the worker closes the socket."""
    machines = Machines(setup)
    build_wall(machines.bytes_of_address_space + HOST_BYTES)
    control.send(driver.READY)
    while True:
        order, pipes, _, _ = socket.recv_fds(control, 1, 2)
        if not order:
            return
        case_from, result_to = pipes
        signal.alarm(math.ceil(setup["seconds"]) + ORPHAN_SECONDS)
        [length] = driver.LENGTH.unpack(driver.read_exactly(case_from, driver.LENGTH.size))
        result = machines.grade(driver.read_exactly(case_from, length))
        message = driver.read_exactly(case_from, driver.NONCE_BYTES) + result
        while message:
            message = message[os.write(result_to, message) :]
        signal.alarm(0)
        for pipe in pipes:
            os.close(pipe)


def main() -> None:
    """Read the setup from standard input, which is the control socket, and serve cases."""
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    [length] = driver.LENGTH.unpack(driver.read_exactly(control.fileno(), driver.LENGTH.size))
    setup = json.loads(driver.read_exactly(control.fileno(), length))
    if sys.platform == "linux":
        driver.prctl(driver.PR_SET_PDEATHSIG, signal.SIGKILL.value)
    work(control, setup)
