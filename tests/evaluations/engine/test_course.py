"""The course of a run, from its rows to its end, with everything recounted after each test."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from apps.accounts.models import Actor
from apps.datasets.stored_files import delete_file, purge_files, store_file
from apps.errors import StateError
from apps.evaluations.engine.plan import claim_plan, plan_run
from apps.evaluations.engine.purge import purge_runs
from apps.evaluations.engine.sweep import sweep_runs
from apps.evaluations.models import Evaluation, Result, Run, Shard
from apps.evaluations.services.evaluations import (
    NewCriterion,
    create_evaluation,
    delete_evaluation,
)
from apps.evaluations.services.runs import cancel_run, delete_run, retry_errored, start_run
from apps.evaluations.targets import Recorded, Target
from apps.inference.endpoints import add_endpoint
from tests.evaluations.engine.plain_runs import SAME, chat, rows, worked
from tests.factories import make_actor, make_version
from tests.judgements import judgements
from tests.model_server import ModelServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def actor() -> Actor:
    return make_actor()


def evaluation_of(actor: Actor, criteria: Sequence[NewCriterion] = (SAME,), **fields: Any) -> Any:
    return create_evaluation(actor, criteria=criteria, has_sample=True, **fields)


def started(
    actor: Actor, source: Any, target: Target | None = None, **fields: Any
) -> tuple[Evaluation, Run]:
    evaluation = evaluation_of(actor)
    return evaluation, start_run(
        actor, evaluation, source=source, target=target or Recorded(), **fields
    )


def serve(actor: Actor, server: ModelServer, *models: str) -> None:
    add_endpoint(actor, base_url=server.base_url, models=models, allow_private=True)


def test_recorded_rows_are_graded_in_order_over_several_shards(actor: Actor) -> None:
    _, run = started(actor, rows(2_500, right=1_000))
    run = worked(run)
    assert run.state == Run.State.COMPLETED
    assert (run.passed_count, run.failed_count) == (1_000, 1_500)
    assert run.shards.count() == 3
    first = Result.objects.of_run(run).filter(state=Result.State.FAILED).in_order().first()
    assert first is not None
    assert first.row_index == 1_000


def test_a_chat_model_is_asked_once_for_every_row(actor: Actor, server: ModelServer) -> None:
    serve(actor, server, "m")
    _, run = started(actor, rows(250, right=0), chat())
    run = worked(run)
    assert run.passed_count == 250
    assert set(server.counts()["prompts"].values()) == {1}
    assert server.counts()["total"] == 250


def test_repeats_answer_every_row_that_often(actor: Actor, server: ModelServer) -> None:
    serve(actor, server, "m")
    _, run = started(actor, rows(20, right=0), chat(), repeats=3)
    run = worked(run)
    assert run.passed_count == run.total_count == 60
    assert set(server.counts()["prompts"].values()) == {3}


def test_a_frozen_version_is_a_source_like_a_file(actor: Actor) -> None:
    version = make_version(actor, items=[{"text": f"text {number}"} for number in range(7)])
    _, run = started(actor, version, chat("builtin/echo"))
    assert worked(run).passed_count == 7


def test_an_item_that_cannot_be_answered_is_errored_and_the_run_completes(
    actor: Actor, server: ModelServer
) -> None:
    serve(actor, server, "fail-400")
    _, run = started(actor, rows(3, right=0), chat("fail-400"))
    run = worked(run)
    assert run.state == Run.State.COMPLETED
    assert run.errored_count == 3
    score = judgements(run)[0]
    assert (score.value, score.passed, score.error_code) == (None, None, "model_rejected")


def test_a_run_that_may_not_survive_an_error_fails_by_its_first_one(
    actor: Actor, server: ModelServer
) -> None:
    serve(actor, server, "fail-400")
    _, run = started(actor, rows(5, right=0), chat("fail-400"), on_error=Run.OnError.FAIL)
    run = worked(run)
    assert run.state == Run.State.FAILED
    assert run.error_code == "model_rejected"
    assert "Row 0" in run.error_message


def test_a_source_without_rows_fails_the_run_or_completes_it_as_it_wants(actor: Actor) -> None:
    _, failing = started(actor, [])
    _, completing = started(actor, [], on_empty=Run.OnEmpty.COMPLETE)
    assert worked(failing).error_code == "empty_source"
    completing.refresh_from_db()
    assert completing.state == Run.State.COMPLETED


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"item": ', "line 3"),
        (b'{"sample": {}}', "item is missing"),
        (b'{"item": {"text": 5}}', "item.text"),
        (b'{"item": {"text": "a\\u0000"}}', "line 3"),
        (b"\xff", "line 3"),
    ],
)
def test_a_bad_row_of_a_file_fails_the_run_with_its_line(
    actor: Actor, line: bytes, reason: str
) -> None:
    good = b'{"item": {"text": "fine"}}'
    lines = b"\n".join([good, b"", line, good])
    file = store_file(actor, filename="rows.jsonl", purpose="evals", chunks=[lines])
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    evaluation = evaluation_of(actor, item_schema=schema)
    run = worked(start_run(actor, evaluation, source=file, target=Recorded()))
    assert (run.state, run.error_code) == (Run.State.FAILED, "invalid_row")
    assert reason in run.error_message
    assert not Result.objects.of_run(run).exists()


def test_a_deleted_file_serves_the_runs_that_use_it_and_goes_with_them(actor: Actor) -> None:
    content = [b'{"item": {"text": "a"}, "sample": {"output_text": "a"}}\n'] * 10
    file = store_file(actor, filename="rows.jsonl", purpose="evals", chunks=content)
    _, run = started(actor, file)
    delete_file(actor, file)
    purge_files()
    assert worked(run).passed_count == 10
    delete_run(actor, run)
    while purge_runs():
        pass
    assert purge_files() == 1


def test_a_canceled_run_stays_canceled_and_nothing_more_is_stored(
    actor: Actor, server: ModelServer
) -> None:
    serve(actor, server, "m")
    _, run = started(actor, rows(50, right=0), chat())
    cancel_run(actor, run)
    assert worked(run).state == Run.State.CANCELED
    assert server.counts()["total"] == 0
    assert cancel_run(actor, run).state == Run.State.CANCELED


def test_a_completed_run_cannot_be_canceled(actor: Actor) -> None:
    _, run = started(actor, rows(1, right=1))
    with pytest.raises(StateError):
        cancel_run(actor, worked(run))


def test_a_retry_keeps_what_is_finished_and_asks_for_the_rest(
    actor: Actor, server: ModelServer
) -> None:
    serve(actor, server, "flaky:1:fail-400")
    _, run = started(actor, rows(4, right=0), chat("flaky:1:fail-400"))
    run = worked(run)
    assert run.errored_count == 4
    again = worked(retry_errored(actor, run))
    assert (again.state, again.passed_count, again.retry_of_id) == ("completed", 4, run.pk)
    with pytest.raises(StateError):
        retry_errored(actor, again)


def test_a_planner_that_died_is_followed_by_another_that_starts_afresh(
    actor: Actor, settings: Settings
) -> None:
    _, run = started(actor, rows(10, right=10))
    settings.ENGINE_LEASE_SECONDS = -1
    dead = claim_plan()
    assert dead is not None
    Shard.objects.create(
        account=run.account, run=run, number=0, first_row=0, row_count=3, start=0, stop=1
    )
    settings.ENGINE_LEASE_SECONDS = 20
    successor = claim_plan()
    assert successor is not None
    plan_run(successor)
    plan_run(dead)  # late, and without the lease
    assert worked(run).passed_count == 10


def test_a_run_whose_shards_are_done_is_closed_by_the_sweep(actor: Actor) -> None:
    _, run = started(actor, rows(3, right=3))
    run = worked(run)
    Run.objects.filter(pk=run.pk).update(state=Run.State.RUNNING, finished_at=None, passed_count=0)
    sweep_runs()
    run.refresh_from_db()
    assert (run.state, run.passed_count) == (Run.State.COMPLETED, 3)


def test_a_shard_that_a_dead_worker_holds_is_taken_up_when_its_lease_ends(actor: Actor) -> None:
    _, run = started(actor, rows(30, right=30))
    planned = claim_plan()
    assert planned is not None
    plan_run(planned)
    shard = run.shards.get()
    now = timezone.now()
    assert Shard.objects.claim(shard, uuid4(), now, now)
    assert worked(run).passed_count == 30


def test_a_deleted_evaluation_takes_its_runs_along_piece_by_piece(actor: Actor) -> None:
    evaluation, run = started(actor, rows(1_200, right=0))
    worked(run)
    delete_evaluation(actor, evaluation)
    assert not Run.objects.visible_to(actor).present().exists()
    while purge_runs():
        pass
    assert not Result.objects.exists()
    assert not Run.objects.exists()
    assert not Evaluation.objects.exists()
