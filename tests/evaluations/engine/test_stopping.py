"""A process that is called off learns it soon, and looks seldom."""

import os
import time

import pytest

from apps.evaluations.engine import stopping
from apps.evaluations.engine.stopping import Lookout, is_called_off
from tests.patience import wait_until


@pytest.fixture
def supervisors_end(monkeypatch):
    """The end of the pipe that a supervisor holds."""
    ours, theirs = os.pipe()
    monkeypatch.setenv(stopping.STOP_FD_VARIABLE, str(ours))
    with os.fdopen(ours, "rb"), os.fdopen(theirs, "wb") as end:
        yield end


def test_a_process_is_called_off_once_its_supervisor_lets_go(supervisors_end):
    assert not is_called_off()
    supervisors_end.close()
    assert is_called_off()


def test_who_asks_often_looks_now_and_then(supervisors_end, monkeypatch):
    looks = []
    monkeypatch.setattr(stopping, "is_called_off", lambda: looks.append(1) or is_called_off())
    monkeypatch.setattr(stopping, "LOOK_SECONDS", 3600)
    lookout = Lookout()

    assert not any(lookout() for _ in range(100))
    supervisors_end.close()
    assert not lookout()
    assert len(looks) == 1


def test_it_is_known_a_moment_later_and_for_good(supervisors_end, monkeypatch):
    lookout = Lookout()
    assert not lookout()
    supervisors_end.close()
    wait_until(lookout, 1)

    monkeypatch.delenv(stopping.STOP_FD_VARIABLE)
    time.sleep(2 * stopping.LOOK_SECONDS)
    assert not is_called_off()
    assert lookout()
