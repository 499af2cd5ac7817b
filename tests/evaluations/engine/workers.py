"""Workers for tests: in this process, or in others that stand on the same database."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

from apps.evaluations.engine.worker import Worker
from tests.patience import patience, slowness

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


def start_worker(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A worker in a process of its own, for one slice after the other until nothing is left."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        env={
            **os.environ,
            **SHORT,
            "EVALPLATFORM_ROLE": "cluster",
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": database_url(),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def workers(
    count: int, *arguments: str, **environment: str
) -> Iterator[list["subprocess.Popen[str]"]]:
    """So many worker processes; killed in the end where they still work."""
    running = [start_worker(*arguments, **environment) for _ in range(count)]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()
