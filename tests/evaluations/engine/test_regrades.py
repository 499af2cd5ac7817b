"""Runs that grade what other runs were answered: nobody is asked twice, and nothing is lost."""

import signal
import time

import pytest
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied

from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.errors import Refusal, StateError, dotted
from apps.evaluations.engine.purge import purge_runs
from apps.evaluations.engine.store import Batch, store
from apps.evaluations.models import Result, Run
from apps.evaluations.reports import read_items, summary
from apps.evaluations.services.criteria import change_criteria
from apps.evaluations.services.evaluations import NewCriterion, delete_evaluation
from apps.evaluations.services.regrades import differing_verdicts, regrade_run
from apps.evaluations.services.runs import cancel_run, delete_run, retry_errored
from apps.evaluations.tally import CALLS, Tally
from tests.evaluations.engine.plain_runs import labels
from tests.evaluations.engine.shards import claim, hold, outcomes, plan
from tests.evaluations.engine.workers import WorkerProcess, work_until_idle, workers
from tests.factories import (
    SAME,
    ask,
    make_actor,
    make_endpoint,
    make_evaluation,
    make_rows,
    make_run,
    make_version,
)
from tests.judgements import judgements
from tests.patience import patience, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

LOOSE = NewCriterion(
    "string_check",
    "loose",
    {"input": "{{ sample.output_text }}", "reference": "label", "operation": "ilike"},
)
WRONG = NewCriterion(
    "string_check",
    "wrong",
    {"input": "{{ sample.output_text }}", "reference": "never", "operation": "eq"},
)


@pytest.fixture
def actor():
    return make_actor()


def worked(run):
    work_until_idle()
    run.refresh_from_db()
    return run


def answers(run):
    return list(
        Result.objects.of_run(run)
        .in_order()
        .values_list("row_index", "repeat", "sample", "exchange")
    )


def test_answers_are_graded_by_other_criteria_and_the_model_is_not_asked(actor, server):
    make_endpoint(actor, server.base_url)
    old = worked(make_run(actor, source=7, target=ask("m"), repeats=2))
    asked = server.counts()["total"]
    new = worked(regrade_run(actor, old, criteria=[LOOSE, WRONG]))
    assert server.counts()["total"] == asked == 14
    assert (new.state, new.total_count, new.failed_count) == (Run.State.COMPLETED, 14, 14)
    assert (new.answers_of, new.retry_of, new.criteria_version) == (old, None, 2)
    assert (new.model, new.repeats, new.endpoint) == (old.model, 2, old.endpoint)
    assert answers(new) == answers(old)
    first, second = summary(new).criteria
    assert (first.criterion.name, first.passed) == ("loose", 14)
    assert (second.criterion.name, second.failed) == ("wrong", 14)
    assert summary(new).usage == []


def test_the_graded_run_and_the_evaluation_stay_as_they_are(actor):
    old = worked(make_run(actor))
    before = list(Result.objects.of_run(old).order_by("pk").values())
    worked(regrade_run(actor, old, criteria=[WRONG]))
    assert list(Result.objects.of_run(old).order_by("pk").values()) == before
    old.evaluation.refresh_from_db()
    assert old.evaluation.criteria_version == 1
    assert make_run(actor, evaluation=old.evaluation).criteria_version == 1


def test_without_other_criteria_those_that_the_evaluation_has_now_are_taken(actor):
    old = worked(make_run(actor, source=6))
    assert (old.passed_count, old.failed_count) == (4, 2)
    same = worked(regrade_run(actor, old))
    assert (same.criteria_version, same.passed_count, same.failed_count) == (1, 4, 2)
    assert differing_verdicts(old, same) == (0, 6)
    change_criteria(actor, old.evaluation, [LOOSE])
    new = worked(regrade_run(actor, old))
    assert (new.criteria_version, new.passed_count) == (2, 6)
    assert differing_verdicts(old, new) == (2, 6)


def test_criteria_that_the_evaluation_had_before_are_no_new_version(actor):
    old = worked(make_run(actor))
    versions = [
        regrade_run(actor, old, criteria=criteria).criteria_version
        for criteria in ([LOOSE], [SAME], [LOOSE], [WRONG])
    ]
    assert versions == [2, 1, 2, 3]


def test_only_what_judging_took_is_counted(actor, server):
    judge = 'answer:{"steps": [], "result": "good"}'
    make_endpoint(actor, server.base_url, models=["m", judge])
    old = worked(make_run(actor, source=5, target=ask("m")))
    server.reset()
    new = worked(regrade_run(actor, old, criteria=[labels(judge)]))
    assert (new.state, new.passed_count) == (Run.State.COMPLETED, 5)
    models = Tally.load(new.tally).models
    assert list(models) == [judge]
    assert models[judge][CALLS] == server.counts()["total"] == 5


def test_recorded_answers_are_read_from_their_rows(actor):
    version = make_version(actor)
    evaluation = make_evaluation(
        actor,
        criteria=[
            NewCriterion(
                "string_check",
                "x",
                {"input": "{{ item.label }}", "reference": "billing", "operation": "eq"},
            )
        ],
    )
    for source in (version, 6):
        old = worked(
            make_run(actor, evaluation=evaluation if source == version else None, source=source)
        )
        new = worked(regrade_run(actor, old))
        assert (new.state, new.passed_count) == (Run.State.COMPLETED, old.passed_count)
        shown = [
            [
                (one.item, one.sample)
                for one in read_items(run, Result.objects.of_run(run).in_order())
            ]
            for run in (old, new)
        ]
        assert shown[0] == shown[1]


def test_what_was_not_answered_stays_errored_with_its_reason(actor, server):
    make_endpoint(actor, server.base_url, models=["fail-400"])
    old = worked(make_run(actor, source=3, target=ask("fail-400"), on_error="fail"))
    assert old.state == Run.State.FAILED
    missing = 3 - Result.objects.of_run(old).count()
    server.reset()
    new = worked(regrade_run(actor, old, criteria=[LOOSE]))
    assert (new.state, new.errored_count) == (Run.State.COMPLETED, 3)
    reasons = list(Result.objects.of_run(new).in_order().values_list("error_code", "error_message"))
    kept = list(Result.objects.of_run(old).in_order().values_list("error_code", "error_message"))
    assert [reason for reason in reasons if reason[0] != "never_answered"] == kept
    assert len([reason for reason in reasons if reason[0] == "never_answered"]) == missing
    assert server.counts()["total"] == 0


def test_items_that_a_canceled_run_never_came_to_are_errored_and_the_others_graded(actor):
    run = plan(make_run(actor, source=make_rows(250), target=ask()))
    claimed = claim(run)
    held = hold(claimed)
    store(
        [
            Batch(
                held,
                outcomes(
                    claimed, range(40), sample='{"output_text":"label"}', exchange='{"input":[]}'
                ),
            )
        ]
    )
    cancel_run(actor, run)
    new = worked(regrade_run(actor, run, criteria=[LOOSE]))
    assert (new.state, new.passed_count, new.errored_count) == (Run.State.COMPLETED, 40, 210)
    assert set(
        Result.objects.of_run(new).filter(state="errored").values_list("error_code", flat=True)
    ) == {"never_answered"}


def test_a_canceled_run_that_asked_nobody_is_graded_whole(actor):
    run = plan(make_run(actor, source=30))
    cancel_run(actor, run)
    new = worked(regrade_run(actor, run))
    assert (new.state, new.passed_count, new.failed_count) == (Run.State.COMPLETED, 20, 10)


def test_a_regraded_run_is_graded_again_like_any_other(actor, server):
    make_endpoint(actor, server.base_url)
    old = worked(make_run(actor, source=4, target=ask("m")))
    middle = worked(regrade_run(actor, old, criteria=[WRONG]))
    delete_run(actor, old)
    while purge_runs():
        pass
    assert not Run.objects.filter(pk=old.pk).exists()
    new = worked(regrade_run(actor, middle, criteria=[LOOSE]))
    assert (new.state, new.passed_count, new.answers_of) == (Run.State.COMPLETED, 4, middle)
    assert server.counts()["total"] == 4


def test_answers_are_kept_from_the_purge_while_they_are_graded(actor, server):
    make_endpoint(actor, server.base_url)
    old = worked(make_run(actor, source=250, target=ask("m")))
    new = plan(regrade_run(actor, old, criteria=[LOOSE]))
    delete_run(actor, old)
    while purge_runs():
        pass
    assert Result.objects.of_run(old).count() == 250
    worked(new)
    assert (new.state, new.passed_count) == (Run.State.COMPLETED, 250)
    while purge_runs():
        pass
    assert not Run.objects.filter(pk=old.pk).exists()
    assert new.answers_of_id == old.pk


def test_a_retry_of_it_judges_again_what_could_not_be_judged_and_asks_nobody_else(actor, server):
    judge = "flaky:1:fail-400"
    make_endpoint(actor, server.base_url, models=["m", judge])
    old = worked(make_run(actor, source=3, target=ask("m")))
    server.reset()
    new = worked(regrade_run(actor, old, criteria=[LOOSE, labels(judge)]))
    assert new.errored_count == 3
    again = worked(retry_errored(actor, new))
    assert (again.retry_of, again.answers_of, again.total_count) == (new, old, 3)
    assert answers(again) == answers(old)
    models = Tally.load(again.tally).models
    assert list(models) == [judge]
    delete_run(actor, old)
    while purge_runs():
        pass
    with pytest.raises(StateError, match="deleted"):
        retry_errored(actor, Run.objects.get(pk=new.pk))


def test_a_run_that_is_going_is_not_graded_again(actor):
    with pytest.raises(StateError, match="still going"):
        regrade_run(actor, make_run(actor))


def test_a_run_of_which_nothing_is_there_is_not_graded_again(actor):
    run = make_run(actor)
    cancel_run(actor, run)
    with pytest.raises(StateError, match="Nothing of this run"):
        regrade_run(actor, run)
    asked = plan(make_run(actor, target=ask()))
    cancel_run(actor, asked)
    with pytest.raises(StateError, match="Nothing of this run"):
        regrade_run(actor, Run.objects.get(pk=asked.pk))


@pytest.mark.parametrize("delete", ["run", "evaluation"])
def test_what_is_deleted_is_not_graded_again(actor, delete):
    run = worked(make_run(actor))
    if delete == "run":
        delete_run(actor, run)
    else:
        delete_evaluation(actor, run.evaluation)
    with pytest.raises(ObjectDoesNotExist):
        regrade_run(actor, run)


def test_criteria_are_checked_before_anything_is_stored(actor):
    run = worked(make_run(actor))
    bad = NewCriterion("string_check", "bad", {**SAME.settings, "operation": "almost"})
    for criteria, path in (([bad], "criteria[0].operation"), ([], "criteria")):
        with pytest.raises(Refusal) as refusal:
            regrade_run(actor, run, criteria=criteria)
        assert dotted(refusal.value.problems[0].path) == path
    assert Run.objects.get() == run
    assert run.evaluation.criteria.count() == 1


def test_grading_again_takes_the_right_to_edit_and_is_recorded(actor):
    run = worked(make_run(actor))
    with pytest.raises(PermissionDenied):
        regrade_run(make_actor(Role.VIEWER, account=actor.account), run)
    with pytest.raises(PermissionDenied):
        regrade_run(make_actor(), run)
    regrade_run(actor, run)
    assert AuditEvent.objects.filter(action="run.regrade").count() == 1


@pytest.mark.slow
def test_workers_killed_while_grading_again_neither_lose_nor_double_anything(actor, server):
    judge = 'answer:{"steps": [], "result": "good"}'
    make_endpoint(actor, server.base_url, models=["m", judge], concurrency=8)
    old = worked(make_run(actor, source=300, target=ask("m")))
    new = regrade_run(actor, old, criteria=[LOOSE, labels(judge)])
    server.reset()
    for _ in range(2):
        with workers(2, ENGINE_LINGER_SECONDS=5) as running:
            goal = Result.objects.of_run(new).count() + 30
            wait_until(lambda goal=goal: Result.objects.of_run(new).count() >= goal, 20)
            for process in running:
                process.send(signal.SIGKILL)
    ends_at = time.monotonic() + patience(40)
    while Run.objects.get(pk=new.pk).state == Run.State.RUNNING:
        assert time.monotonic() < ends_at
        WorkerProcess(1).wait()
    new.refresh_from_db()
    assert (new.state, new.passed_count) == (Run.State.COMPLETED, 300)
    assert answers(new) == answers(old)
    assert len(judgements(new)) == 600
