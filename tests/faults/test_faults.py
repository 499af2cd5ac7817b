"""Systems that are hurt while they work: a few seeds of what `python -m tests.faults` does."""

import os
import subprocess
import sys

import pytest

from tests.faults.injuries import INJURIES
from tests.faults.schedule import schedule
from tests.faults.services import missing_services
from tests.faults.trial import kinds_here, run_trial
from tests.faults.two_machines import missing_network
from tests.patience import patience

SERVICES = os.environ.get("DATABASE_URL", "").startswith("postgres")
# Chosen so that between them the gravest are met, on SQLite and on services: a worker that is
# frozen and one that is killed at work, everything killed at once, a disk or a database that is
# away, answers that are cut off. The fault command tries as many more as are wanted.
SEEDS = [
    pytest.param(6, "short"),
    pytest.param(
        39,
        "as installed",
        marks=pytest.mark.once("the shortened trial claims, stores and recovers there"),
    ),
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SERVICES and bool(missing_services()), reason=missing_services() or "none"),
]


def test_a_seed_decides_what_is_done_and_the_same_seed_the_same():
    kinds = kinds_here(services=False)
    schedules = [schedule(seed, kinds) for seed in range(200)]
    assert schedules == [schedule(seed, kinds) for seed in range(200)]
    assert {fault.kind for faults in schedules for fault in faults} == set(kinds)
    assert all(INJURIES[fault.kind].needs != "services" for faults in schedules for fault in faults)


@pytest.mark.parametrize(("seed", "durations"), SEEDS)
def test_whatever_is_done_to_it_every_run_ends_whole(seed: int, durations: str) -> None:
    is_real = durations == "as installed"
    run_trial(seed, services=SERVICES, real=is_real, patience=patience(1))


@pytest.mark.skipif(
    not SERVICES or bool(missing_services() or missing_network()),
    reason=missing_services() or missing_network() or "two machines need PostgreSQL and Redis",
)
def test_a_machine_that_is_cut_off_costs_nothing_and_comes_back() -> None:
    """In a process of its own: what the machines say to each other does not go over loopback."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.faults.two_machines"],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert told.returncode == 0, told.stdout
    assert "both machines work again" in told.stdout
