"""Run graders under bubblewrap: namespaces of their own, a few read-only folders, no privileges."""

import contextlib
import json
import os
import random
import secrets
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Self

from apps.evaluations.sandbox import driver, packages
from apps.evaluations.sandbox.base import (
    TRACEBACK_LENGTH,
    Case,
    Limits,
    Ran,
    Refusal,
    probe,
)
from apps.evaluations.sandbox.slots import Slot

START_SECONDS = 60
CASES_A_HELPER = 32  # fewer are not worth the start of another sandbox
DRIVER_SECONDS = 10  # to kill what a case left and say so
DRIVER_PATH = Path("/driver.py")
READ_BYTES = 1 << 16
# Users that no system hands out, one for each sandbox, so that they share no count of processes.
FIRST_USER, USER_COUNT = 1_879_048_192, 1 << 20
NOBODY = 65534
LIBRARY_FOLDERS = ("/lib", "/usr/lib")
MORE_LIBRARIES = ("/lib64", "/usr/lib64", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
# One thread a library: a grader has one core, and threads would not survive the fork of a case.
ENVIRONMENT = {
    "PATH": "/nowhere",
    "HOME": driver.SCRATCH,
    "TMPDIR": driver.SCRATCH,
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class Unavailable(Exception):
    """No sandbox could be started."""


class Died(Exception):
    """The sandbox ended while it had a case."""


class Batch:
    """The cases that several threads share: each is taken once. ran: by the case's index."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.ran: dict[int, Ran] = {}
        self._left = iter(enumerate(cases))
        self._lock = threading.Lock()

    def next(self) -> tuple[int, Case] | None:
        with self._lock:
            return next(self._left, None)

    def abandon(self, ran: Ran) -> None:
        """Let all cases that nobody has taken end like this."""
        while (taken := self.next()) is not None:
            self.ran[taken[0]] = ran


@dataclass(frozen=True)
class Bubblewrap:
    """The runner of Linux machines with bubblewrap.

    as_root: started by root, its graders become a user of their own, without a user namespace;
    else they run in a new one, which root must not choose: its graders would own the machine's
    devices, whatever they are called inside.
    folder: where the workers of a machine keep count of what runs.
    """

    folder: Path
    as_root: bool = False

    name = "bubblewrap"

    def probe(self) -> Refusal | None:
        if shutil.which("bwrap") is None:
            return Refusal("bubblewrap is not installed")
        if os.uname().machine not in driver.CALLS:
            return Refusal(f"there is no system call filter for {os.uname().machine}")
        return probe(self)

    def packages(self) -> dict[str, str]:
        return packages.versions()

    def run(self, source: str, cases: Sequence[Case], limits: Limits) -> list[Ran]:
        """Call grade() case by case, in further sandboxes too while cores are free."""
        batch = Batch(cases)
        work = partial(self._work, batch, source, limits)
        helpers = min((os.cpu_count() or 1) - 1, len(cases) // CASES_A_HELPER)
        with ThreadPoolExecutor(max(helpers, 1), "grader") as threads:
            done = [threads.submit(work, wait=False) for _ in range(helpers)]
            work(wait=True)
            for future in done:
                future.result()
        return [batch.ran[index] for index in range(len(cases))]

    def _work(self, batch: "Batch", source: str, limits: Limits, wait: bool) -> None:
        """Take cases until there are none; a sandbox that one has broken or used is replaced."""
        box: Box | None = None
        with Slot(self.folder) as slot, contextlib.ExitStack() as boxes:
            while slot.take(wait) and (taken := batch.next()) is not None:
                index, case = taken
                try:
                    if box is None:
                        box = boxes.enter_context(self._box(source, limits))
                    batch.ran[index] = box.grade(case, limits)
                except Died:
                    text = "The sandbox ended while it ran this grader."
                    batch.ran[index] = Ran("lost", text=text)
                except Unavailable as error:
                    # The rest would wait as long to learn the same.
                    batch.ran[index] = Ran("unavailable", text=str(error))
                    batch.abandon(batch.ran[index])
                if box is not None and not box.clean:
                    boxes.close()
                    box = None
                slot.give_way()

    def command(self, limits: Limits) -> list[str]:
        """The command line of a sandbox, the driver's included."""
        words = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
        words += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--as-pid-1"]
        words += ["--hostname", "sandbox", "--cap-drop", "ALL"]
        if self.as_root:
            # Given up by the driver when it becomes another user, before it reads any source.
            words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        else:
            words += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
            words += ["--disable-userns"] if _can_disable_userns() else []
        words.append("--clearenv")
        for name, value in ENVIRONMENT.items():
            words += ["--setenv", name, value]
        words += _mounts()
        words += ["--perms", "1777", "--size", str(limits.disk_bytes), "--tmpfs", driver.SCRATCH]
        words += ["--chdir", driver.SCRATCH, "--remount-ro", "/", "--"]
        return [*words, _interpreter(), "-I", "-S", "-B", "-X", "utf8", str(DRIVER_PATH)]

    def _box(self, source: str, limits: Limits) -> "Box":
        user = FIRST_USER + random.randrange(USER_COUNT) if self.as_root else None  # noqa: S311
        setup = {"source": source, "user": user, "traceback_length": TRACEBACK_LENGTH}
        return Box(self.command(limits), _framed(json.dumps(setup | asdict(limits)).encode()))


class Box:
    """One running sandbox, ready for cases.

    clean: nothing of the cases before is left in it, and it answers. Raises Unavailable.
    """

    def __init__(self, command: list[str], setup: bytes) -> None:
        self.clean = True
        self._control, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603  our own words
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
            except OSError as error:
                self._control.close()
                raise Unavailable(f"bubblewrap could not be started: {error}") from error
        self._control.settimeout(START_SECONDS)
        try:
            self._control.sendall(setup)
            ready = self._control.recv(1)
        except OSError:
            ready = b""
        if ready != driver.READY:
            raise Unavailable(f"The sandbox did not start. {self._last_words()}".strip())
        self._control.settimeout(DRIVER_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def grade(self, case: Case, limits: Limits) -> Ran:
        """Call grade() with this case. Raises Died."""
        nonce = secrets.token_hex(driver.NONCE_BYTES // 2).encode()
        body = json.dumps({"sample": case.sample, "item": case.item}).encode()
        try:
            talk = self._start_case(_framed(body) + nonce, limits)
            self._control.sendall(b"-")
            report = self._control.recv(driver.REPORT.size)
            status, self.clean = driver.REPORT.unpack(report)
        except (OSError, struct.error) as error:
            self.clean = False
            raise Died from error
        return talk.judge(nonce, os.waitstatus_to_exitcode(status), limits)

    def _start_case(self, message: bytes, limits: Limits) -> "Talk":
        case_from, case_to = os.pipe()
        result_from, result_to = os.pipe()
        try:
            try:
                socket.send_fds(self._control, [b"+"], [case_from, result_to])
            finally:
                os.close(case_from)
                os.close(result_to)
            return Talk.hold(case_to, result_from, message, limits)
        finally:
            os.close(case_to)
            os.close(result_from)

    def _last_words(self) -> str:
        self._control.close()
        self._process.kill()
        _, words = self._process.communicate()
        return words.decode(errors="replace").strip()[-TRACEBACK_LENGTH:]


@dataclass(frozen=True)
class Talk:
    """What a case's process said on its channel, and how it came to an end."""

    said: bytes
    late: bool

    @classmethod
    def hold(cls, case_to: int, result_from: int, message: bytes, limits: Limits) -> Self:
        """Send the case and listen until the process ends, says too much or is late."""
        os.set_blocking(case_to, False)
        said = b""
        until = time.monotonic() + limits.seconds
        poll = select.poll()
        poll.register(result_from, select.POLLIN)
        poll.register(case_to, select.POLLOUT)
        rest = memoryview(message)
        while (left := until - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000):
                if descriptor == result_from:
                    part = os.read(result_from, READ_BYTES)
                    said += part
                    if not part or len(said) > limits.result_bytes:
                        return cls(said, late=False)
                else:
                    try:
                        rest = rest[os.write(case_to, rest) :]
                    except BrokenPipeError:
                        rest = rest[:0]
                    if not rest:
                        poll.unregister(case_to)
        return cls(said, late=True)

    def judge(self, nonce: bytes, exit_code: int, limits: Limits) -> Ran:
        """A score or a traceback only when the process said that, said it once, and ended well."""
        if self.late:
            return Ran("lost", text=f"Time limit: grade() had {limits.seconds:g} seconds.")
        if len(self.said) > limits.result_bytes:
            return Ran("lost", text=f"Output limit: more than {limits.result_bytes:,} bytes.")
        if exit_code < 0:
            ended_by = signal.Signals(-exit_code).name
            return Ran("lost", text=f"The grader's process was ended by {ended_by}.")
        if exit_code or not self.said:
            return Ran("lost", text=f"The grader ended its process (exit status {exit_code}).")
        kind, content = self.said[len(nonce) :][:1], self.said[len(nonce) + 1 :]
        if self.said.startswith(nonce):
            if kind == driver.SCORED and len(content) == driver.SCORE.size:
                return Ran.scored(*driver.SCORE.unpack(content))
            if kind == driver.RAISED:
                return Ran("raised", text=content.decode(errors="replace")[:TRACEBACK_LENGTH])
            if kind == driver.NO_MEMORY and not content:
                return Ran("lost", text=f"Memory limit: {limits.memory_bytes >> 20:,} MiB.")
        return Ran("lost", text="Something else than grade() wrote to the channel of its result.")


def _framed(message: bytes) -> bytes:
    return driver.LENGTH.pack(len(message)) + message


@cache
def _can_disable_userns() -> bool:
    options = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False)  # noqa: S607
    return "--disable-userns" in options.stdout


def _interpreter() -> str:
    """The interpreter behind our virtual environment, which itself is not shown."""
    return os.path.realpath(sys.executable)


@cache
def _mounts() -> list[str]:
    """Options that show the interpreter, its library, the packages and nothing else."""
    shown = [_libraries(Path(folder)) for folder in LIBRARY_FOLDERS]
    shown += [*MORE_LIBRARIES, _interpreter(), sysconfig.get_path("stdlib")]
    shown.append(sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix}))
    if library := sysconfig.get_config_var("INSTSONAME"):
        shown.append(os.path.join(sysconfig.get_config_var("LIBDIR"), library))
    sources = {Path(path): Path(path) for path in shown if os.path.exists(path)}
    packed = {Path(driver.PACKAGES, entry.name): entry for entry in packages.entries()}
    sources |= packed | {DRIVER_PATH: Path(driver.__file__)}
    devices = [Path(path) for path in DEVICES]
    # Made beforehand: what bubblewrap makes on the way, only root may enter.
    parents = {parent for path in (*sources, *devices) for parent in path.parents}
    parents.add(Path(driver.PACKAGES))
    words: list[str] = []
    for folder in sorted(parents - set(sources) - {Path("/")}):
        words += ["--dir", str(folder)]
    for path, source in sources.items():
        if source.is_symlink():
            words += ["--symlink", str(source.readlink()), str(path)]
        else:
            words += ["--ro-bind", str(source), str(path)]
    # What is installed beside the interpreter is not all meant for graders.
    for neighbour in _neighbours():
        words += ["--tmpfs", neighbour, "--remount-ro", neighbour]
    for device in devices:
        words += ["--dev-bind", str(device), str(device)]
    return words


def _libraries(folder: Path) -> str:
    """The part of the folder that holds shared libraries, where the system keeps them apart."""
    own = folder / (sysconfig.get_config_var("MULTIARCH") or ".")
    return str(own if own.is_dir() and not folder.is_symlink() else folder)


def _neighbours() -> list[str]:
    library = Path(sysconfig.get_path("stdlib"))
    usual = [library / "site-packages", library / "dist-packages"]
    usual += [Path("/usr/lib/python3/dist-packages")]
    shown = (Path(_libraries(Path("/usr/lib"))), library)
    return [
        str(folder)
        for folder in usual
        if folder.is_dir() and any(folder.is_relative_to(one) for one in shown)
    ]
