"""The process that holds a sandbox's machines: it starts one, and then has one for every case.

The host that asked kills the process when a case is late; nothing inside can stop what it runs.
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

# What the host itself may still take for a case, besides the machine's memory.
HOST_BYTES = 512 << 20
ORPHAN_SECONDS = 10  # after a case's time, when the one who would have killed this is gone


def build_wall(bytes_of_address_space: int) -> None:
    """A second wall, should a machine have a hole: no process, no socket, no file, little memory.

    On Linux only; nothing leans on it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (bytes_of_address_space, bytes_of_address_space))
        if (machine := os.uname().machine) in driver.CALLS:
            driver.filter_calls(driver.steps_of(driver.seccomp_program(machine)))


def work(control: socket.socket, setup: dict[str, Any]) -> None:
    """Say READY, then answer case after case until nobody asks any more."""
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
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    [length] = driver.LENGTH.unpack(driver.read_exactly(control.fileno(), driver.LENGTH.size))
    setup = json.loads(driver.read_exactly(control.fileno(), length))
    if sys.platform == "linux":
        driver.prctl(driver.PR_SET_PDEATHSIG, signal.SIGKILL.value)
    work(control, setup)
