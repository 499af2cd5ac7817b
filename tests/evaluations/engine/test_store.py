"""Storing: once, fenced, in short transactions, and through whatever the database does."""

import pytest
from django.db import DataError, IntegrityError, OperationalError, connection
from django.test.utils import CaptureQueriesContext

from apps.evaluations import reports
from apps.evaluations.engine import store as store_module
from apps.evaluations.engine import writer as writer_module
from apps.evaluations.engine.store import ROWS_AT_ONCE, Batch, store, transactions
from apps.evaluations.engine.sweep import sweep_runs
from apps.evaluations.engine.writer import Writer
from apps.evaluations.models import Result, Run, Shard
from apps.evaluations.services.runs import cancel_run
from apps.grading.graders.base import Mark
from tests.evaluations.engine.shards import (
    claim,
    coordinator,
    errored,
    hold,
    let_lease_run_out,
    outcome,
    outcomes,
    plan,
    poll,
)
from tests.factories import SAME, make_actor, make_evaluation, make_run
from tests.judgements import judgement, judgements

pytestmark = pytest.mark.django_db


@pytest.fixture
def run() -> Run:
    return plan(make_run(source=6))


@pytest.fixture
def writer(settings) -> Writer:
    settings.ENGINE_FLUSH_SECONDS = 0.01
    return Writer(is_cut_off=lambda: False)


def pairs(claimed, found):
    held = hold(claimed)
    return held, [(held, one) for one in found]


def state(run):
    return Run.objects.get(pk=run.pk).state


def test_the_last_result_completes_the_run_and_freezes_its_counts(run, writer):
    claimed = claim(run)
    held, all_of_it = pairs(claimed, outcomes(claimed))
    writer.store(all_of_it[:5])
    assert state(run) == Run.State.RUNNING
    writer.store(all_of_it[5:])
    run.refresh_from_db()
    assert (run.state, run.passed_count) == (Run.State.COMPLETED, 6)
    (usage,) = reports.summary(run).usage
    assert (usage.calls, usage.total_tokens) == (6, 42)
    assert not held.is_open


def test_a_late_worker_cannot_write_over_its_successor(run, writer):
    late = claim(run)
    let_lease_run_out(late.shard)
    successor = claim(run)
    held, all_of_it = pairs(late, outcomes(late, mark=Mark(0.0, False)))
    writer.store(all_of_it)
    assert held.is_lost
    assert Result.objects.count() == 0
    writer.store(pairs(successor, outcomes(successor))[1])
    assert {one.passed for one in judgements()} == {True}
    assert state(run) == Run.State.COMPLETED


def test_a_late_worker_cannot_add_to_what_its_successor_has_finished(run, writer):
    late = claim(run)
    let_lease_run_out(late.shard)
    successor = claim(run)
    writer.store(pairs(successor, outcomes(successor))[1])
    held, all_of_it = pairs(late, outcomes(late))
    writer.store(all_of_it)
    assert held.is_lost


def test_a_successor_goes_on_where_its_predecessor_stopped(run, writer):
    first = claim(run)
    writer.store(pairs(first, outcomes(first, rows=[4, 0, 2]))[1])
    let_lease_run_out(first.shard)
    second = claim(run)
    assert [row.index for row, _ in second.todo] == [1, 3, 5]
    assert second.shard.attempts == 1
    writer.store(pairs(second, outcomes(second))[1])
    assert state(run) == Run.State.COMPLETED


def test_nothing_is_stored_after_a_cancellation(run, writer):
    claimed = claim(run)
    held, all_of_it = pairs(claimed, outcomes(claimed))
    writer.store(all_of_it[:2])
    cancel_run(make_actor(account=run.account), run)
    writer.store(all_of_it[2:])
    run.refresh_from_db()
    assert held.is_lost
    assert (run.state, run.passed_count, Result.objects.count()) == (Run.State.CANCELED, 2, 2)


def test_a_lost_shard_does_not_take_the_others_of_its_transaction_with_it(writer):
    actor = make_actor()
    first, second = (plan(make_run(actor, source=6)) for _ in range(2))
    late, ours = poll(coordinator()).claims
    let_lease_run_out(late.shard)
    claim(first)
    writer.store([*pairs(late, outcomes(late))[1], *pairs(ours, outcomes(ours))[1]])
    assert not Result.objects.of_run(first).exists()
    assert state(second) == Run.State.COMPLETED


def test_what_is_marked_lost_is_not_stored_even_while_the_lease_holds(run, writer):
    claimed = claim(run)
    held, all_of_it = pairs(claimed, outcomes(claimed))
    held.is_lost = True
    writer.store(all_of_it)
    assert not Result.objects.exists()


@pytest.mark.parametrize("criteria", [1, 4])
def test_no_transaction_writes_more_rows_than_it_may(criteria):
    actor = make_actor()
    evaluation = make_evaluation(actor, criteria=[SAME] * criteria)
    run = plan(make_run(actor, evaluation=evaluation, source=12))
    claimed = claim(run)
    held = hold(claimed)
    found = [(held, outcome(claimed, index)) for index in range(4_000)]
    groups = list(transactions(found))
    assert all(sum(batch.rows for batch in group) <= ROWS_AT_ONCE for group in groups)
    assert all(len({batch.held for batch in group}) == len(group) for group in groups)
    assert [one for group in groups for batch in group for one in batch.outcomes] == [
        one for _, one in found
    ]


def test_an_item_without_criteria_is_not_judged(writer):
    actor = make_actor()
    run = plan(make_run(actor, evaluation=make_evaluation(actor, criteria=[]), source=2))
    claimed = claim(run)
    writer.store(pairs(claimed, outcomes(claimed))[1])
    run.refresh_from_db()
    assert (run.state, run.unjudged_count) == (Run.State.COMPLETED, 2)


def test_an_errored_item_fails_a_run_that_wants_that_and_stays_an_item_elsewhere(writer):
    actor = make_actor()
    for on_error, expected in (("fail", Run.State.FAILED), ("continue", Run.State.COMPLETED)):
        run = plan(make_run(actor, source=3, on_error=on_error))
        claimed = claim(run)
        held = hold(claimed)
        writer.store([(held, outcome(claimed, 1, fault=errored()))])
        writer.store([(held, outcome(claimed, 0)), (held, outcome(claimed, 2))])
        run.refresh_from_db()
        assert run.state == expected
        assert run.errored_count == 1
    assert Run.objects.get(state=Run.State.FAILED).error_message == "Row 1: No answer."
    assert Run.objects.get(state=Run.State.FAILED).error_code == "model_timeout"


def test_an_errored_score_fails_the_run_with_the_reason_of_the_score(writer):
    run = plan(make_run(source=3, on_error="fail"))
    claimed = claim(run)
    lost = Mark.errored_by("invalid_variable_error", "This row has no item.x.")
    writer.store([(hold(claimed), outcome(claimed, 2, mark=lost))])
    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert (run.error_code, run.error_message) == (
        "invalid_variable_error",
        "Row 2: same: This row has no item.x.",
    )


def test_the_sweep_fails_a_run_whose_worker_died_before_it_could(run):
    Run.objects.update(on_error=Run.OnError.FAIL)
    claimed = claim(run)
    found = [outcome(claimed, 0, fault=errored()), *outcomes(claimed, rows=range(1, 6))]
    store([Batch(hold(claimed), found)])
    assert not sweep_runs()
    assert state(run) == Run.State.FAILED


class Breaking:
    """Stands before a function and breaks the first calls, before or after they have worked."""

    def __init__(self, real, *, times=1, before=False, error=OperationalError):
        self.real, self.left, self.before, self.error = real, times, before, error

    def __call__(self, *arguments, **keywords):
        breaks = self.left > 0
        self.left -= 1
        if breaks and self.before:
            raise self.error("gone away")
        answer = self.real(*arguments, **keywords)
        if breaks:
            raise self.error("gone away")
        return answer


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_commit_that_breaks_doubles_and_loses_nothing(run, writer, monkeypatch, before, times):
    claimed = claim(run)
    _, all_of_it = pairs(claimed, outcomes(claimed))
    broken = Breaking(connection._commit, before=before, times=times)
    monkeypatch.setattr(connection, "_commit", broken)
    writer.store(all_of_it[:4])
    monkeypatch.undo()
    assert Result.objects.count() == 4
    writer.store(all_of_it[4:])
    assert state(run) == Run.State.COMPLETED


@pytest.mark.django_db(transaction=True)
def test_a_second_transaction_that_breaks_does_not_repeat_the_first(writer, monkeypatch):
    monkeypatch.setattr(store_module, "ROWS_AT_ONCE", 3)
    run = plan(make_run(source=9))
    claimed = claim(run)
    held, all_of_it = pairs(claimed, outcomes(claimed))
    real = store_module._insert
    calls = []

    def insert(batches):
        calls.append(len(batches))
        if len(calls) == 2:
            raise OperationalError("gone away")
        real(batches)

    monkeypatch.setattr(store_module, "_insert", insert)
    writer.store(all_of_it)
    assert len(calls) == 4
    assert not held.is_lost
    assert state(run) == Run.State.COMPLETED


@pytest.mark.django_db(transaction=True)
def test_a_run_that_could_not_be_closed_is_closed_by_the_sweep(run, writer, monkeypatch):
    broken = Breaking(writer_module.close_run, before=True)
    monkeypatch.setattr(writer_module, "close_run", broken)
    claimed = claim(run)
    writer.store(pairs(claimed, outcomes(claimed))[1])
    assert state(run) == Run.State.RUNNING
    assert not sweep_runs()
    assert state(run) == Run.State.COMPLETED


@pytest.mark.django_db(transaction=True)
def test_an_outcome_that_the_database_refuses_is_errored_alone(run, writer, monkeypatch):
    real = store_module._insert

    def insert(fresh):
        if any(one.sample == "odd" for batch, _ in fresh for one in batch.outcomes):
            raise DataError("too odd")
        real(fresh)

    monkeypatch.setattr(store_module, "_insert", insert)
    claimed = claim(run)
    found = [*outcomes(claimed, rows=[0, 1, 2, 4, 5]), outcome(claimed, 3, sample="odd")]
    writer.store(pairs(claimed, found)[1])
    run.refresh_from_db()
    assert (run.state, run.passed_count, run.errored_count) == (Run.State.COMPLETED, 5, 1)
    odd = Result.objects.of_run(run).get(row_index=3)
    assert (odd.state, odd.error_code) == (Result.State.ERRORED, "not_storable")
    assert odd.read_verdicts()[0].error_code == "not_storable"


@pytest.mark.django_db(transaction=True)
def test_where_nothing_can_be_stored_the_shard_is_let_go(run, writer, monkeypatch):
    def insert(fresh):
        raise DataError("no")

    monkeypatch.setattr(store_module, "_insert", insert)
    claimed = claim(run)
    held, all_of_it = pairs(claimed, outcomes(claimed))
    writer.store(all_of_it)
    assert held.is_lost
    assert Shard.objects.get().done_count == 0


@pytest.mark.django_db(transaction=True)
def test_who_is_cut_off_gives_up(run, monkeypatch):
    broken = Breaking(connection._commit, before=True, times=100)
    claimed = claim(run)
    held, all_of_it = pairs(claimed, outcomes(claimed))
    monkeypatch.setattr(connection, "_commit", broken)
    Writer(is_cut_off=lambda: True).store(all_of_it)
    assert held.is_lost


def test_evidence_with_a_nul_is_stored(run, writer):
    claimed = claim(run)
    odd = outcome(claimed, 0, mark=Mark(1.0, True, "a\0b"))
    writer.store(pairs(claimed, [odd])[1])
    assert judgement().evidence == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.django_db(transaction=True)
def test_a_row_that_is_there_already_is_an_error_of_the_databases_own_kind(run):
    """Whatever way rows take into the database: the writer tells its errors apart."""
    claimed = claim(run)
    held = hold(claimed)
    store([Batch(held, [outcome(claimed, 0)])])
    with pytest.raises(IntegrityError):
        store([Batch(held, [outcome(claimed, 0)])])
    assert Result.objects.count() == 1
    store([Batch(held, [outcome(claimed, 1)])])


def test_storing_takes_few_queries_however_many_rows(run):
    claimed = claim(run)
    held = hold(claimed)
    with CaptureQueriesContext(connection) as queries:
        store([Batch(held, outcomes(claimed))])
    # Savepoints of the test aside: the fence, the counters, results, and of a shard that is done
    # the columns of its results.
    asked = [one for one in queries if "SAVEPOINT" not in one["sql"]]
    assert len(asked) <= 5
