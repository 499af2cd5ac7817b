"""Run inside the sandbox: give each case a process of its own, and kill what that leaves behind.

The driver is process 1 of its namespace: nothing inside can kill it, and everything dies with it.
It never reads a case. It passes two pipes on to the case's process: one to read the case from,
one to write the result to. It imports only the standard library and the module `grading`, since
of our files only these two are mounted.

Messages on its control socket, which is its standard input:
  the host sends the setup, as length and JSON; the driver answers READY;
  for each case the host sends one byte with the two pipes, then one byte once it has the result;
  the driver answers with the wait status of the case's process and whether /tmp is as before.
"""

import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
import socket
import struct
import sys
import types
from typing import Any, NoReturn

# Relative: mounted without the packages above them, both files have other full names.
from .grading import call, prepare

READY = b"R"
LENGTH = struct.Struct("<Q")
REPORT = struct.Struct("<i?")
NONCE_BYTES = 32
SCRATCH = "/tmp"  # noqa: S108  a file system of the sandbox's own
PACKAGES = "/packages"

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER = 2
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCH_AT, FIRST_ARGUMENT_AT = 0, 4, 16
CLONE_THREAD = 0x10000
X32_NUMBERS = 0x40000000
STEP_BYTES = 8
DRIVER_FILES = 256  # more than this program ever has open

CLONE3 = 435

# The namespaces keep a grader from the host. The filter keeps it from what they leave open: more
# processes, its driver, memory outside its limit, and calls of the kernel that no grader needs.
# By machine: the audit architecture, then the numbers of clone and prlimit64, then those refused.
REFUSED_ANYWHERE = (
    *(425, 426, 427),  # io_uring
    *(428, 429, 430, 431, 432, 433, 442),  # the newer mounting calls
    *(438, 440, 447),  # pidfd_getfd, process_madvise, memfd_secret
)
CALLS: dict[str, tuple[int, int, int, tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E,
        56,
        302,
        (
            *(57, 58, 59, 322),  # fork, vfork, execve, execveat
            *(41, 101, 310, 311, 312),  # socket, ptrace, process_vm_readv and _writev, kcmp
            *(272, 308, 165, 166, 155, 161),  # unshare, setns, mount, umount2, pivot_root, chroot
            *(248, 249, 250, 321, 298, 323),  # keys, bpf, perf_event_open, userfaultfd
            *(319, 29, 68, 64, 240),  # memfd_create, shmget, msgget, semget, mq_open
            *(141, 251, 203, 144, 142, 314),  # priorities and schedulers, also of others
            *(279, 256),  # move_pages, migrate_pages
        ),
    ),
    "aarch64": (
        0xC00000B7,
        220,
        261,
        (
            *(221, 281),  # execve, execveat; the rest in the order above
            *(198, 117, 270, 271, 272),
            *(97, 268, 40, 39, 41, 51),
            *(217, 218, 219, 280, 241, 282),
            *(279, 194, 186, 190, 180),
            *(140, 30, 122, 119, 118, 274),
            *(239, 238),
        ),
    ),
}


def seccomp_program(machine: str) -> bytes:
    """Build the system call filter of a grader's process, as steps of eight bytes.

    machine: as uname names it. Raises KeyError for one that CALLS does not have.
    """
    architecture, clone, prlimit, refused = CALLS[machine]

    def step(code: int, value: int, holds: int = 0, fails: int = 0) -> bytes:
        return struct.pack("<HBBI", code, holds, fails, value)

    program = [
        step(LOAD, ARCH_AT),
        step(EQUAL, architecture, holds=1),
        step(RETURN, KILL),
        step(LOAD, NUMBER_AT),
        step(AT_LEAST, X32_NUMBERS, fails=1),
        step(RETURN, EPERM),
    ]
    for number in (*refused, *REFUSED_ANYWHERE):
        program += [step(EQUAL, number, fails=1), step(RETURN, EPERM)]
    # Its flags lie in memory, which a filter cannot read; the C library falls back to clone.
    program += [step(EQUAL, CLONE3, fails=1), step(RETURN, ENOSYS)]
    program += [
        step(EQUAL, clone, fails=4),
        step(LOAD, FIRST_ARGUMENT_AT),
        step(ANY_BIT, CLONE_THREAD, holds=1),
        step(RETURN, EPERM),
        step(RETURN, ALLOW),
    ]
    # Its own limits only: the driver runs as the same user, so it could change the driver's too.
    program += [
        step(EQUAL, prlimit, fails=4),
        step(LOAD, FIRST_ARGUMENT_AT),
        step(EQUAL, 0, holds=1),
        step(RETURN, EPERM),
        step(RETURN, ALLOW),
    ]
    program.append(step(RETURN, ALLOW))
    return b"".join(program)


class Program(ctypes.Structure):
    """The kernel's struct sock_fprog: a filter's length in steps, and its steps."""

    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_char_p)]


LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


def prctl(option: int, first: int, second: int = 0) -> None:
    """Call prctl. Raises OSError."""
    if LIBC.prctl(option, first, second, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def become_nobody(user: int | None) -> None:
    """Give up what is left of root, and close this process to others of the same user.

    user: to become; None when a user namespace has made the process nobody already. Raises
    SystemExit when root could be had back.
    """
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    with contextlib.suppress(OSError):
        os.setuid(0)
        raise SystemExit("the sandbox could not give up its privileges")
    # Only now: the change of user resets both.
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL.value)
    prctl(PR_SET_DUMPABLE, 0)
    # The kernel sends process 1 no signal without a handler; Python sets one for this.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def confine(setup: dict[str, Any], program: bytes) -> None:
    """Put this process under its limits, for good."""
    for kind, limit in (
        (resource.RLIMIT_AS, setup["memory_bytes"]),
        (resource.RLIMIT_FSIZE, setup["disk_bytes"]),
        (resource.RLIMIT_NOFILE, setup["open_files"]),
        (resource.RLIMIT_NPROC, setup["threads"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    filter_calls(steps_of(program))


def steps_of(program: bytes) -> Program:
    """Wrap the filter in the structure that the kernel takes."""
    return Program(len(program) // STEP_BYTES, program)


def filter_calls(steps: Program) -> None:
    """Put this process under a filter of system calls, for good."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(steps))


def read_exactly(descriptor: int, length: int) -> bytes:
    """Read this many bytes. Raises EOFError when there are fewer."""
    parts = []
    while length:
        part = os.read(descriptor, min(length, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def work(
    code: types.CodeType, setup: dict[str, Any], program: bytes, case_from: int, result_to: int
) -> NoReturn:
    """Run one case in this process, under its limits, and end the process."""
    low, high = sorted((case_from, result_to))
    os.closerange(3, low)
    os.closerange(low + 1, high)
    os.closerange(high + 1, DRIVER_FILES)
    # Bound before the case's code runs: it may replace them in their module.
    write, leave = os.write, os._exit
    confine(setup, program)
    [length] = LENGTH.unpack(read_exactly(case_from, LENGTH.size))
    result = call(code, json.loads(read_exactly(case_from, length)), setup)
    # The nonce is read only now: while the case's code ran, it was nowhere in this process.
    write(result_to, read_exactly(case_from, NONCE_BYTES) + result)
    leave(0)


def end_all(child: int) -> int:
    """Kill all processes of the namespace but this one, and return the child's wait status."""
    status = 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    while True:
        try:
            process, ended = os.wait()
        except ChildProcessError:
            return status
        if process == child:
            status = ended


def scratch_state() -> tuple[int, list[str]] | None:
    """Return a value that changes with anything that is done in the scratch folder or to it."""
    try:
        return os.stat(SCRATCH).st_ctime_ns, os.listdir(SCRATCH)
    except OSError:
        return None


def main() -> None:
    """Read the setup, become nobody, prepare the source, then serve cases until the host leaves."""
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=os.dup(0))
    [length] = LENGTH.unpack(read_exactly(control.fileno(), LENGTH.size))
    setup = json.loads(read_exactly(control.fileno(), length))
    program = seccomp_program(os.uname().machine)
    become_nobody(setup["user"])
    sys.path.append(PACKAGES)
    code = prepare(setup["source"])
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    os.close(nothing)
    # A collection in a case's process would touch, and so copy, all objects made until now.
    gc.collect()
    gc.freeze()
    untouched = scratch_state()
    control.send(READY)
    while True:
        order, pipes, _, _ = socket.recv_fds(control, 1, 2)
        if not order:
            return
        child = os.fork()
        if child == 0:
            # Whatever happens here, this process must not become a second driver.
            try:
                work(code, setup, program, *pipes)
            finally:
                os._exit(1)
        for pipe in pipes:
            os.close(pipe)
        if not control.recv(1):
            return
        status = end_all(child)
        control.send(REPORT.pack(status, scratch_state() == untouched))
