"""The supervisor with services that behave as badly as they can, in real processes."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.patience import patience, wait_until
from tests.served import ROOT, Command

STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
print("started", os.getpid(), flush=True)
time.sleep(600)
"""
POLITE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
print("started", os.getpid(), flush=True)
while True:
    time.sleep(0.1)
"""

Supervise = Callable[..., Command]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    """Supervises a service that runs `code`, and waits until it prints that it has started."""
    with ExitStack() as running:

        def start(code: str, *words: str, grace: float = 1) -> Command:
            service = tmp_path / "service.py"
            service.write_text(code)
            command = Command(
                [str(ROOT / "tests" / "supervised.py"), str(service), *words],
                tmp_path / "log",
                {"EVALPLATFORM_GRACE_SECONDS": str(grace)},
            )
            running.enter_context(command)
            wait_until(lambda: len(pids(command)) >= code.count("fork") + 1, 10, "the start")
            return command

        yield start


def pids(command: Command) -> list[int]:
    return [int(pid) for pid in re.findall(r"started (\d+)", command.log)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_polite_service_at_once_and_with_success(supervise, number):
    grace = patience(10)
    command = supervise(POLITE, grace=grace)
    wait_until(lambda: "ready" in command.log, 10, lambda: command.log)
    command.send(number)
    assert command.wait_gone(5) < grace
    assert command.process.returncode == 0


def test_a_service_that_ignores_its_end_is_killed_after_the_grace(supervise):
    command = supervise(STUBBORN)
    command.send(signal.SIGTERM)
    assert command.wait_gone(5) > 0.9
    assert command.process.returncode == 0


def test_a_second_signal_shortens_the_grace(supervise):
    grace = patience(30)
    command = supervise(STUBBORN, grace=grace)
    command.send(signal.SIGINT)
    time.sleep(1)
    assert command.processes()
    command.send(signal.SIGINT)
    assert command.wait_gone(3) < grace - 1
    assert command.process.returncode == 0


def test_nothing_is_left_of_a_supervisor_that_was_killed(supervise):
    command = supervise(STUBBORN)
    command.send(signal.SIGKILL)
    command.wait_gone(4)


def test_an_orphan_sees_the_end_of_a_supervisor_killed_together_with_its_service(supervise):
    command = supervise(STUBBORN)
    command.send(signal.SIGSTOP)
    os.kill(pids(command)[0], signal.SIGKILL)
    command.send(signal.SIGKILL)
    command.wait_gone(4)


def test_what_a_dead_leader_left_is_killed_before_the_service_starts_again(supervise):
    command = supervise(STUBBORN)
    leader, child = pids(command)[:2]
    os.kill(leader, signal.SIGKILL)
    wait_until(lambda: len(pids(command)) == 4, 5, "the second start")
    assert {leader, child}.isdisjoint(process.pid for process in command.processes())
    assert "(-9) and is started again" in command.log


def test_a_service_that_dies_again_and_again_is_started_less_and_less_often(supervise):
    command = supervise('print("started 1", flush=True)')
    wait_until(lambda: len(pids(command)) == 3, 10, "the third start")
    assert [delay in command.log for delay in ("in 0.5 s", "in 1.0 s", "in 4.0 s")] == [
        True,
        True,
        False,
    ]


def test_a_stuck_service_is_replaced(supervise):
    command = supervise(POLITE, "stuck")
    wait_until(lambda: len(pids(command)) >= 2, 5, "the second start")
    assert "looks stuck" in command.log


def test_a_service_that_stays_stuck_has_more_and_more_time(supervise):
    command = supervise(POLITE, "stuck")
    wait_until(lambda: len(pids(command)) >= 4, 15, "the fourth start")
    waited = re.findall(r"looks stuck for (\S+) s", command.log)
    assert waited[:3] == ["0.5", "1.0", "2.0"]


def test_a_sweep_that_fails_is_tried_again(supervise):
    command = supervise(POLITE, "sweep-fails")
    wait_until(lambda: command.log.count("swept") > 2, 5, "the third sweep")
    assert "the database is away" in command.log
    assert len(pids(command)) == 1
