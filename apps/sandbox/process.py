"""Start a sandbox, send it one case after the other, and read what each case's process wrote.

The module `driver` defines the messages.
"""

import contextlib
import json
import os
import secrets
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

from apps.sandbox import driver, grading
from apps.sandbox.base import TRACEBACK_LENGTH, CallResult, Case, Limits

START_SECONDS = 60  # an import of scipy from a cold disk takes many seconds
DRIVER_SECONDS = 10  # for the driver to kill what a case left, and to report it
READ_BYTES = 1 << 16


class Unavailable(Exception):
    """No sandbox could be started."""


class Died(Exception):
    """The sandbox ended while it had a case."""


class SandboxProcess:
    """A running sandbox that takes one case after the other.

    clean: the sandbox still answers, and no earlier case has left anything in it. Only a clean
    sandbox may be given another case. Raises Unavailable when it does not start.
    """

    def __init__(
        self,
        command: list[str],
        setup: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.clean = True
        self._control, theirs = socket.socketpair()
        with theirs:
            try:
                self.process = _start(command, theirs.fileno(), environment)
            except OSError as error:
                self._control.close()
                raise Unavailable(f"{command[0]} could not be started: {error}") from error
        self._control.settimeout(START_SECONDS)
        try:
            self._control.sendall(_framed(json.dumps(setup).encode()))
            ready = self._control.recv(1)
        except OSError:
            ready = b""
        if ready != driver.READY:
            raise Unavailable(f"The sandbox did not start. {self._last_words()}".strip())
        self._control.settimeout(DRIVER_SECONDS)

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        self._control.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def grade(self, case: Case, limits: Limits) -> CallResult:
        """Call grade() with this case. Raises Died when the sandbox itself has ended."""
        nonce = secrets.token_hex(driver.NONCE_BYTES // 2).encode()
        body = json.dumps({"sample": case.sample, "item": case.item}).encode()
        try:
            exchange = self._start_case(_framed(body) + nonce, limits)
            exit_code = self.end_case(exchange, limits)
        except (OSError, struct.error) as error:
            self.clean = False
            raise Died from error
        return exchange.result(nonce, exit_code, limits)

    def end_case(self, exchange: "CaseExchange", limits: Limits) -> int:
        """Tell the driver to kill what is left of the case; return its process's exit code."""
        self._control.sendall(b"-")
        report = self._control.recv(driver.REPORT.size)
        status, self.clean = driver.REPORT.unpack(report)
        return os.waitstatus_to_exitcode(status)

    def _start_case(self, message: bytes, limits: Limits) -> "CaseExchange":
        case_from, case_to = os.pipe()
        result_from, result_to = os.pipe()
        try:
            try:
                socket.send_fds(self._control, [b"+"], [case_from, result_to])
            finally:
                os.close(case_from)
                os.close(result_to)
            return CaseExchange.run(case_to, result_from, message, limits)
        finally:
            os.close(case_to)
            os.close(result_from)

    def _last_words(self) -> str:
        self._control.close()
        self.process.kill()
        _, words = self.process.communicate()
        return words.decode(errors="replace").strip()[-TRACEBACK_LENGTH:]


@dataclass(frozen=True)
class CaseExchange:
    """Everything that a case's process wrote to its result pipe, and whether it ran out of time.

    The grader's own code can write to that pipe, so the output may be a forgery.
    """

    output: bytes
    late: bool

    @classmethod
    def run(cls, case_to: int, result_from: int, message: bytes, limits: Limits) -> Self:
        """Send the case, and read until the process ends, writes too much or runs out of time.

        Both at once: a process that writes before it has read its case must not block us.
        """
        os.set_blocking(case_to, False)
        output = b""
        until = time.monotonic() + limits.seconds
        poll = select.poll()
        poll.register(result_from, select.POLLIN)
        poll.register(case_to, select.POLLOUT)
        rest = memoryview(message)
        while (left := until - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000):
                if descriptor == result_from:
                    part = os.read(result_from, READ_BYTES)
                    output += part
                    if not part or len(output) > limits.result_bytes:
                        return cls(output, late=False)
                else:
                    try:
                        rest = rest[os.write(case_to, rest) :]
                    except BrokenPipeError:
                        rest = rest[:0]
                    if not rest:
                        poll.unregister(case_to)
        return cls(output, late=True)

    def is_complete(self, limits: Limits) -> bool:
        """Return whether there is output, in time and within its limit."""
        return bool(self.output) and not self.late and len(self.output) <= limits.result_bytes

    def result(self, nonce: bytes, exit_code: int, limits: Limits) -> CallResult:
        """Read the result from the output; whatever is not exactly one result is lost.

        nonce: the random text with which the driver's code opens a result. It reaches the process
        only after the grader's code has returned, so a forged result cannot begin with it.
        exit_code: of the case's process, negative for a signal.
        """
        if self.late:
            return CallResult("lost", text=f"Time limit: grade() had {limits.seconds:g} seconds.")
        if len(self.output) > limits.result_bytes:
            return CallResult(
                "lost", text=f"Output limit: more than {limits.result_bytes:,} bytes."
            )
        if exit_code < 0:
            ended_by = signal.Signals(-exit_code).name
            return CallResult("lost", text=f"The grader's process was ended by {ended_by}.")
        if exit_code or not self.output:
            return CallResult(
                "lost", text=f"The grader ended its process (exit status {exit_code})."
            )
        kind, content = self.output[len(nonce) :][:1], self.output[len(nonce) + 1 :]
        if self.output.startswith(nonce):
            if kind == grading.SCORED and len(content) == grading.SCORE.size:
                return CallResult.scored(*grading.SCORE.unpack(content))
            if kind == grading.RAISED:
                return CallResult(
                    "raised", text=content.decode(errors="replace")[:TRACEBACK_LENGTH]
                )
            if kind == grading.NO_MEMORY and not content:
                return CallResult("lost", text=f"Memory limit: {limits.memory_bytes >> 20:,} MiB.")
            if kind == grading.BROKEN:
                return CallResult("lost", text=content.decode(errors="replace")[:TRACEBACK_LENGTH])
        return CallResult(
            "lost", text="Something else than grade() wrote to the channel of its result."
        )


def _start(
    command: list[str], control: int, environment: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    """Start a sandbox that dies with this process.

    The kernel kills it when the thread that started it ends, not the process: so a thread that
    lives as long as this process starts all of them.
    """

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  our own words
            command,
            stdin=control,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
        )

    return _starter(os.getpid()).submit(start).result()


@cache
def _starter(_process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "sandboxes")


def _framed(message: bytes) -> bytes:
    return driver.LENGTH.pack(len(message)) + message
