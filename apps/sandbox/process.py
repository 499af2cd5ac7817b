"""Sandboxes that stay for many cases, which know nothing of each other, and how these are held.

Every such sandbox speaks with its host as `driver` says.
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

START_SECONDS = 60
DRIVER_SECONDS = 10  # to kill what a case left and say so
READ_BYTES = 1 << 16


class Unavailable(Exception):
    """No sandbox could be started."""


class Died(Exception):
    """The sandbox ended while it had a case."""


class SandboxProcess:
    """One running sandbox, ready for cases.

    clean: nothing of the cases before is left in it, and it answers. Raises Unavailable.
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
        """Call grade() with this case. Raises Died."""
        nonce = secrets.token_hex(driver.NONCE_BYTES // 2).encode()
        body = json.dumps({"sample": case.sample, "item": case.item}).encode()
        try:
            exchange = self._start_case(_framed(body) + nonce, limits)
            exit_code = self.end_case(exchange, limits)
        except (OSError, struct.error) as error:
            self.clean = False
            raise Died from error
        return exchange.judge(nonce, exit_code, limits)

    def end_case(self, exchange: "CaseExchange", limits: Limits) -> int:
        """The exit code of the case's process, once its driver has killed what is left of it."""
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
            return CaseExchange.hold(case_to, result_from, message, limits)
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

    def is_whole(self, limits: Limits) -> bool:
        """Whether the process said something, in time and not too much."""
        return bool(self.said) and not self.late and len(self.said) <= limits.result_bytes

    def judge(self, nonce: bytes, exit_code: int, limits: Limits) -> CallResult:
        """A score or a traceback only when the process said that, said it once, and ended well."""
        if self.late:
            return CallResult("lost", text=f"Time limit: grade() had {limits.seconds:g} seconds.")
        if len(self.said) > limits.result_bytes:
            return CallResult(
                "lost", text=f"Output limit: more than {limits.result_bytes:,} bytes."
            )
        if exit_code < 0:
            ended_by = signal.Signals(-exit_code).name
            return CallResult("lost", text=f"The grader's process was ended by {ended_by}.")
        if exit_code or not self.said:
            return CallResult(
                "lost", text=f"The grader ended its process (exit status {exit_code})."
            )
        kind, content = self.said[len(nonce) :][:1], self.said[len(nonce) + 1 :]
        if self.said.startswith(nonce):
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

    The kernel kills it with the thread that started it, so that must be one that stays.
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
