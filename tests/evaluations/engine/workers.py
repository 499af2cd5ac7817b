"""Workers for tests: in this process, or in others that stand on the same database."""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from django.db import connection

from apps.evaluations.engine.worker import Worker
from tests.patience import patience, slowness, wait_until

SCRIPT = Path(__file__).with_name("worker_process.py")
ROOT = SCRIPT.parents[3]
SHORT = {
    "ENGINE_LEASE_SECONDS": f"{1.5 * slowness()}",
    "ENGINE_RENEW_SECONDS": "0.3",
    "ENGINE_LOOK_SECONDS": "0.1",
    "ENGINE_LINGER_SECONDS": "0.3",
}


def work_until_idle() -> None:
    """Finish whatever can be claimed now, in this process."""
    while Worker().run():
        pass


class InBackground(threading.Thread):
    """Works until idle, or until one slice is over, in a thread beside the test."""

    def __init__(self) -> None:
        super().__init__()
        self.worker = Worker()
        self.has_more: bool | None = None

    def run(self) -> None:
        try:
            self.has_more = self.worker.run()
        finally:
            connection.close()

    def __enter__(self) -> "InBackground":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join(patience(30))
        assert not self.is_alive()


def database_url() -> str:
    kept = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{kept['NAME']}"
    person = f"{kept['USER']}:{kept['PASSWORD']}".rstrip(":")
    return f"postgres://{person}@{kept['HOST']}:{kept['PORT']}/{kept['NAME']}"


@cache
def nursery() -> "subprocess.Popen[str]":
    """Start the process that forks the workers of these tests, which ends with them."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        env={
            **os.environ,
            **SHORT,
            "EVALPLATFORM_ROLE": "cluster",
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": database_url(),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.communicate)
    return process


class WorkerProcess:
    """A worker in a process of its own, for one slice after the other until nothing is left.

    seconds: goes on for so long of a quick machine without work. settings: its own, of Django.
    """

    def __init__(self, seconds: float = 0, **settings: float) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="worker-", dir=os.environ["DATA_DIR"]))
        asked = {"seconds": seconds, "settings": settings, "folder": str(self._folder)}
        process = nursery()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{json.dumps(asked)}\n")
        process.stdin.flush()
        self.pid = int(process.stdout.readline())

    @property
    def log(self) -> str:
        return (self._folder / f"{self.pid}.log").read_text()

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for the signal that killed it, or None while it lives."""
        code = self._folder / f"{self.pid}.code"
        return int(code.read_text()) if code.exists() else None

    def wait(self, seconds: float = 30) -> int:
        wait_until(lambda: self.returncode is not None, seconds, lambda: f"the end of\n{self.log}")
        assert self.returncode is not None
        return self.returncode

    def send(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.wait()


@contextmanager
def workers(count: int, seconds: float = 0, **settings: float) -> Iterator[list[WorkerProcess]]:
    """So many worker processes; killed in the end where they still work."""
    running = [WorkerProcess(seconds, **settings) for _ in range(count)]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
