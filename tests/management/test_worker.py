"""`manage.py worker`: the same supervision, without a web server and without migrating."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import wait_until
from tests.served import Managed


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Managed]:
    """Start a worker whose database nobody has migrated yet."""
    with Managed(tmp_path, "worker") as worker:
        wait_until(lambda: "Waiting for the database" in worker.log, 10, lambda: worker.log)
        yield worker


def test_a_worker_waits_for_the_database_then_works_and_ends_cleanly(worker, tmp_path):
    assert len(worker.processes()) == 1
    worker.manage("migrate", "--verbosity", "0")
    worker.ring("os.mkdir", str(tmp_path / "made"))
    wait_until((tmp_path / "made").exists, 10, lambda: f"work\n{worker.log}")
    assert worker.leader("granian") is None
    worker.send(signal.SIGTERM)
    worker.wait_gone(20)
    assert worker.process.returncode == 0
    assert worker.log.splitlines() == [
        "Waiting for the database to be migrated",
        "Evalplatform works with 2 processes  (Ctrl-C stops it)",
    ]


def test_a_waiting_worker_can_be_stopped(worker):
    worker.send(signal.SIGINT)
    worker.wait_gone(5)
    assert worker.process.returncode == 0
    assert worker.log.count("\n") == 1
