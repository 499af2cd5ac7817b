"""One trial: runs at work, a schedule of injuries, and what must be true afterwards."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.injuries import INJURIES, wait_recovered
from tests.faults.schedule import Fault, schedule
from tests.faults.services import missing_services
from tests.faults.system import DELAY, Client, System, can_mount
from tests.patience import slowness

ASKED, GRADED, ASKED_BY_OTHER = 600, 1_000, 100
CRITERIA = 2
CONCURRENCY, CONCURRENCY_OF_OTHER = 32, 4
IN_FLIGHT = CONCURRENCY + CONCURRENCY_OF_OTHER
# Promise 1: a run finishes by itself within so long of a worker's death.
RECOVERY_SECONDS = 90
# Promise 2: what is answered is stored within half a second; as much again for a busy machine.
STORED_SECONDS = 1.0
DEATH_COSTS = IN_FLIGHT + STORED_SECONDS * slowness() * IN_FLIGHT / DELAY
# What a worker says when it was too slow, or frozen, to keep its leases: as good as its death.
SURRENDER = "what is at work is let go"
STOP_SECONDS = 20
MOST_BYTES = 400 * 1024 * 1024


@dataclass
class Tally:
    """The figures of one trial.

    took: seconds from the last fault to the end of the last run. surrenders: how often a worker
    gave up what it was too slow for.
    """

    seed: int
    faults: Sequence[Fault]
    took: float = 0.0
    repeats: int = 0
    bound: int = 0
    surrenders: int = 0
    errored: int = 0
    largest: int = 0

    def __str__(self) -> str:
        gave_up = f", {self.surrenders} surrenders" if self.surrenders else ""
        return (
            f"seed {self.seed}: {'; '.join(map(str, self.faults))}"
            f" -> over {self.took:.1f} s later, {self.repeats} of at most {self.bound} repeats,"
            f" {self.errored} errored, {self.largest // 2**20} MiB{gave_up}"
        )


@dataclass
class Trial:
    """A system, its runs, and how much may be asked twice by now."""

    system: System
    seed: int
    clients: list[Client] = field(default_factory=list)
    runs: list[tuple[Client, str]] = field(default_factory=list)
    allowance: float = 0.0

    def start_runs(self) -> None:
        first, other = self.clients
        self.runs = [
            (first, first.start_asking(ASKED)),
            (first, first.start_grading(GRADED)),
            (other, other.start_asking(ASKED_BY_OTHER)),
        ]

    def strike(self, fault: Fault) -> None:
        injury = INJURIES[fault.kind]
        time.sleep(fault.pause)
        began = time.monotonic()
        injury.strike(self.system, fault.seconds)
        self.allowance += injury.deaths * DEATH_COSTS
        if injury.starves:
            self.allowance += (time.monotonic() - began) * IN_FLIGHT / DELAY

    def wait_over(self) -> float:
        began = time.monotonic()
        for client, run in self.runs:
            client.wait_over(run, RECOVERY_SECONDS)
        took = time.monotonic() - began
        self.system.keeps_promise(took, RECOVERY_SECONDS, "the end of the runs")
        return took


def kinds_here(*, services: bool) -> list[str]:
    """The injuries that can be done to such a system on this machine."""
    there = {"", "services" if services else "disk" if can_mount() else ""}
    return [kind for kind, injury in INJURIES.items() if injury.needs in there]


def run_trial(
    seed: int,
    *,
    services: bool = False,
    real: bool = False,
    patience: float = 1,
    faults: Sequence[Fault] | None = None,
) -> Tally:
    """Hurt a system as the seed says, or as `faults` do; AssertionError tells what was not kept.

    services: on PostgreSQL and Redis instead of SQLite. real: with the durations as they are
    installed. patience: multiplies the seconds within which something is promised.
    """
    assert not (services and missing_services()), missing_services()
    if faults is None:
        faults = schedule(seed, kinds_here(services=services))
    tally = Tally(seed, faults)
    with System(services=services, real=real, seed=seed, patience=patience) as system:
        trial = Trial(system, seed)
        trial.clients = system.open_accounts({"first": CONCURRENCY, "other": CONCURRENCY_OF_OTHER})
        for fault in faults:
            if fault.before:
                trial.strike(fault)
                wait_recovered(system)
        trial.start_runs()
        for fault in faults:
            if not fault.before:
                trial.strike(fault)
        wait_recovered(system)
        tally.took = trial.wait_over()
        tally.largest = system.largest_bytes()
        check(trial, tally)
    return tally


def check(trial: Trial, tally: Tally) -> None:
    """Fail unless all runs are whole, little was asked twice, and nobody is left behind."""
    system = trial.system
    found = json.loads(system.inside("tell()"))
    assert len(found) >= len(trial.runs), found
    asked = system.models.counts()
    harmed = asked["harmed"]
    for run in found:
        _check_whole(run, harmed)
    answered = sum(run["states"].get("passed", 0) for run in found if run["asks"])
    tally.errored = sum(run["states"].get("errored", 0) for run in found)
    # A call that was answered badly is not counted: it has to be repeated.
    tally.repeats = sum(asked["prompts"].values()) - sum(harmed.values()) - answered
    tally.surrenders = system.served.log.count(SURRENDER)
    tally.bound = round(trial.allowance + tally.surrenders * DEATH_COSTS)
    assert 0 <= tally.repeats <= tally.bound, f"{tally.repeats} calls too many, {tally.bound} may"
    assert asked["max_in_flight"] <= _most_in_flight(tally.faults), asked["max_in_flight"]
    assert tally.largest <= MOST_BYTES, f"a process took {tally.largest} bytes"
    strays = [(process.pid, process.cmdline()) for process in system.strays()]
    assert not strays, strays
    assert system.served.stop() == 0, system.served.log
    gone = system.served.wait_gone(STOP_SECONDS)
    system.keeps_promise(gone, STOP_SECONDS, "the end of all processes")


def _most_in_flight(faults: Sequence[Fault]) -> int:
    """The places of a frozen worker go to others, but it cannot hang up where nobody answers.

    Nor can it but finish, when it thaws, the call that it was about to send.
    """
    is_frozen = any(fault.kind == "paused-worker" for fault in faults)
    return IN_FLIGHT * (2 if is_frozen else 1)


def _check_whole(run: dict[str, Any], harmed: dict[str, int]) -> None:
    rows = list(range(run["total"]))
    brief = {name: value for name, value in run.items() if name != "rows"}
    assert run["state"] == "completed", brief
    assert run["total"] in {ASKED, GRADED, ASKED_BY_OTHER}, brief
    assert run["rows"] == rows, brief
    assert run["scores_per_result"] == [CRITERIA], brief
    assert run["counts"] == run["states"], brief
    assert run["tally"] == run["passed_scores"], brief
    assert (run["open_shards"], run["done"]) == (0, len(rows)), brief
    assert set(run["states"]) <= {"passed", "errored"}, brief
    unharmed = [
        (row, why) for row, why in run["errored"] if not harmed.get(f"{run['account']} {row}")
    ]
    assert not unharmed, unharmed
