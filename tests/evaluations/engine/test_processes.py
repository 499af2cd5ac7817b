"""Several worker processes on one database: what they share, and what their deaths cost."""

import signal
import time

import pytest

from apps.evaluations.models import Result, Run, Shard
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.services.runs import cancel_run
from apps.grading.graders import GRADERS
from apps.inference.models import EndpointSlot
from apps.leases import database_now
from tests.evaluations.engine.deadly import Deadly
from tests.evaluations.engine.workers import WorkerProcess, workers
from tests.factories import ask, make_actor, make_endpoint, make_evaluation, make_run
from tests.judgements import judgement
from tests.patience import patience, slowness, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def actor():
    return make_actor()


def state(run):
    return Run.objects.get(pk=run.pk).state


def completed(*runs):
    return lambda: all(state(run) == Run.State.COMPLETED for run in runs)


def stored():
    return Result.objects.count()


@pytest.fixture
def deadly(actor, monkeypatch):
    """A run of 30 recorded rows, of which row 17 kills."""
    monkeypatch.setitem(GRADERS, Deadly.kind, Deadly)
    criterion = NewCriterion("deadly", "deadly", {"deadly_text": "ticket 17"})
    return make_run(actor, evaluation=make_evaluation(actor, criteria=[criterion]), source=30)


def deaths_until_completed(run) -> int:
    """Run one worker after the other on it; return how many died of it."""
    deaths = 0
    ends_at = time.monotonic() + patience(60)
    while state(run) != Run.State.COMPLETED:
        assert time.monotonic() < ends_at
        process = WorkerProcess(1, ENGINE_LEASE_SECONDS=0.6)
        assert process.wait() in {0, 9}, process.log
        deaths += process.returncode == 9
    return deaths


@pytest.mark.slow
def test_an_item_that_kills_its_workers_is_errored_and_the_rest_finishes(deadly):
    innocent = make_run(source=40)
    deaths = deaths_until_completed(deadly)
    assert deaths == 4  # three claims in vain, then one alone with its item
    deadly.refresh_from_db()
    assert (deadly.passed_count, deadly.errored_count) == (29, 1)
    assert Result.objects.of_run(deadly).get(state="errored").row_index == 17
    score = judgement(deadly, state="errored")
    assert score.error_code == "worker_died"
    assert state(innocent) == Run.State.COMPLETED
    assert not Result.objects.of_run(innocent).filter(state="errored").exists()


@pytest.mark.slow
def test_three_workers_never_have_more_calls_in_flight_than_the_endpoint_allows(actor, server):
    make_endpoint(actor, server.base_url, models=["slow:0.1"], concurrency=10)
    # More than can be done before the last worker is there, however slowly that starts.
    runs = [make_run(actor, source=5_000, target=ask("slow:0.1")) for _ in range(2)]
    # Whoever finds all slots taken stays until it is given some.
    with workers(3, 60):

        def all_have_some():
            slots = EndpointSlot.objects.filter(lease_until__gt=database_now())
            granted = list(slots.values_list("granted", flat=True))
            assert sum(granted) <= 10
            return sum(one > 0 for one in granted) == 3

        wait_until(all_have_some, 40)
        goal = stored() + 100
        wait_until(lambda: (all_have_some(), stored() >= goal)[1], 40)
        for run in runs:
            cancel_run(actor, run)
    counts = server.counts()
    assert counts["max_in_flight"] <= 10
    # In every run the same prompts, and no call is made twice.
    assert set(counts["prompts"].values()) <= {1, 2}


def test_a_small_run_is_not_behind_a_big_one(actor, server):
    make_endpoint(actor, server.base_url, models=["slow:0.2"], concurrency=8)
    big = make_run(actor, source=2_000, target=ask("slow:0.2"))
    with workers(1):
        wait_until(lambda: stored() > 20)
        small = make_run(actor, source=10, target=ask("slow:0.2"))
        wait_until(completed(small))
        stranger = make_actor()
        make_endpoint(stranger, server.base_url, models=["slow:0.2"], concurrency=8)
        theirs = make_run(stranger, source=10, target=ask("slow:0.2"))
        wait_until(completed(theirs))
        assert state(big) == Run.State.RUNNING


def test_a_small_recorded_run_is_not_behind_a_big_one(actor):
    big = make_run(actor, source=60_000)
    with workers(1):
        wait_until(lambda: stored() > 1_000)
        small = make_run(source=10)
        wait_until(completed(small))
        assert state(big) == Run.State.RUNNING


@pytest.mark.slow
def test_a_killed_worker_costs_only_the_calls_that_were_not_stored(actor, server):
    make_endpoint(actor, server.base_url, models=["slow:0.1"], concurrency=8)
    run = make_run(actor, source=400, target=ask("slow:0.1"))
    with workers(1) as (victim,):
        wait_until(lambda: stored() > 60)
        victim.kill()
    kept = stored()
    asked = server.counts()["total"]
    # 8 in flight, and 80 a second answered: half a second of them at most were not stored.
    assert asked - kept <= 8 + 40 * slowness()
    with workers(2, 5):
        wait_until(completed(run), 30)
    counts = server.counts()
    assert counts["total"] - 400 <= asked - kept
    assert set(counts["prompts"].values()) <= {1, 2}
    assert not Shard.objects.filter(attempts__gt=0).exists()


def test_a_worker_that_was_stopped_for_long_writes_nothing_over_its_successor(actor, server):
    """Its leases run out while it sleeps; when it wakes, another has its work."""
    make_endpoint(actor, server.base_url, models=["slow:0.2"], concurrency=8)
    run = make_run(actor, source=100, target=ask("slow:0.2"))
    with workers(1) as (sleeper,):
        wait_until(lambda: stored() > 10)
        sleeper.send(signal.SIGSTOP)
        with workers(1, 4):
            wait_until(lambda: stored() > 40)
            sleeper.send(signal.SIGCONT)
            wait_until(completed(run))
    assert server.counts()["max_in_flight"] <= 16
