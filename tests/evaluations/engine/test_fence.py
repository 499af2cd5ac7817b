"""Nothing doubled: who writes without the lease writes nothing."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError
from django.utils import timezone

from apps.clients import Usage
from apps.evaluations.engine import store as store_module
from apps.evaluations.engine.close import finish_run
from apps.evaluations.engine.plan import claim_plan, plan_run
from apps.evaluations.engine.store import Batch, HeldShard, Judged, Outcome, store
from apps.evaluations.engine.worker import Worker
from apps.evaluations.engine.writer import Writer
from apps.evaluations.models import Result, Run, Shard
from apps.evaluations.services.evaluations import create_evaluation
from apps.evaluations.services.runs import start_run
from apps.evaluations.tally import Tally
from apps.evaluations.targets import Recorded, Spent
from apps.grading.graders.base import Mark
from apps.ids import new_id
from tests.evaluations.engine.plain_runs import SAME, rows
from tests.factories import make_actor

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run() -> Run:
    """A planned run of three rows in one shard."""
    actor = make_actor()
    evaluation = create_evaluation(actor, criteria=[SAME], has_sample=True)
    start_run(actor, evaluation, source=rows(3, right=3), target=Recorded())
    planned = claim_plan()
    assert planned is not None
    plan_run(planned)
    planned.refresh_from_db()
    return planned


def held_by(worker: UUID, run: Run, seconds: float = 20) -> HeldShard:
    """The run's shard, claimed under a lease of so many seconds."""
    now = timezone.now()
    shard = Shard.objects.next_of(run.pk, now, [])
    assert shard is not None
    assert Shard.objects.claim(shard, worker, now, now + timedelta(seconds=seconds))
    return HeldShard(shard, run, Tally.load(shard.tally))


def outcomes(run: Run, *indexes: int) -> list[Outcome]:
    criterion = run.evaluation.criteria.get()
    mark = Mark(1.0, True, "right")
    return [
        Outcome(index, 0, None, None, None, [Judged(criterion.pk, mark)], [Spent("m", 1, Usage())])
        for index in indexes
    ]


def test_a_late_worker_cannot_write_over_its_successor(run: Run) -> None:
    late = held_by(new_id(), run, seconds=-1)
    held_by(new_id(), run)
    store([Batch(late, outcomes(run, 0, 1))])
    assert late.is_lost
    assert not Result.objects.exists()


def test_nothing_is_written_after_the_run_has_ended(run: Run) -> None:
    held = held_by(new_id(), run)
    store([Batch(held, outcomes(run, 0))])
    assert finish_run(run.pk, Run.State.CANCELED)
    store([Batch(held, outcomes(run, 1))])
    assert held.is_lost
    assert Result.objects.count() == 1
    run.refresh_from_db()
    assert run.passed_count == 1


def test_a_final_state_never_changes(run: Run) -> None:
    assert finish_run(run.pk, Run.State.CANCELED)
    assert not finish_run(run.pk, Run.State.COMPLETED)
    run.refresh_from_db()
    assert run.state == Run.State.CANCELED


def test_a_batch_stored_again_after_a_lost_answer_is_recognised(run: Run) -> None:
    held = held_by(new_id(), run)
    before = held.progress
    store([Batch(held, outcomes(run, 0, 1))])
    held.progress = before  # the commit went through, its answer did not
    store([Batch(held, outcomes(run, 0, 1))])
    assert not held.is_lost
    assert held.progress.done == 2
    assert Result.objects.count() == 2


def test_a_database_that_fails_once_costs_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = held_by(new_id(), run)
    insert = store_module._insert
    failures = [OperationalError("gone")]

    def insert_or_fail(batches: Any) -> None:
        insert(batches)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(store_module, "_insert", insert_or_fail)
    writer = Writer(lambda: False)
    writer.store([(held, outcome) for outcome in outcomes(run, 0, 1, 2)])
    run.refresh_from_db()
    assert (run.state, run.passed_count) == (Run.State.COMPLETED, 3)


def test_a_successor_does_what_is_left_and_no_more(run: Run) -> None:
    first = held_by(new_id(), run, seconds=-1)
    # Stored while the lease still held.
    Shard.objects.filter(pk=first.shard.pk).update(lease_until=timezone.now() + timedelta(hours=1))
    store([Batch(first, outcomes(run, 1))])
    Shard.objects.filter(pk=first.shard.pk).update(lease_until=timezone.now() - timedelta(hours=1))
    Worker().run()
    run.refresh_from_db()
    assert (run.state, run.passed_count) == (Run.State.COMPLETED, 3)
    assert Result.objects.count() == 3
