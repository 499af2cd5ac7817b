"""Whole runs by workers in this process, against a real model server."""

import json
import os
import time

import pytest
from django.db import OperationalError
from django.utils import timezone

from apps import bells
from apps.datasets.stored_files import delete_file, purge_files, store_file
from apps.evaluations import reports
from apps.evaluations.engine import close as close_module
from apps.evaluations.engine import keeper as keeper_module
from apps.evaluations.engine import plan as plan_module
from apps.evaluations.engine import store as store_module
from apps.evaluations.engine.slot_shares import SlotShares
from apps.evaluations.engine.stopping import STOP_FD_VARIABLE
from apps.evaluations.engine.sweep import sweep_runs
from apps.evaluations.engine.worker import Worker
from apps.evaluations.models import Result, Run, Shard, WorkerHeartbeat
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.services.runs import cancel_run, retry_errored
from apps.grading.graders.base import Mark
from apps.grading.graders.string_check import StringCheck
from apps.grading.samples import complete_sample
from apps.inference.models import EndpointSlot, ModelEndpoint
from apps.leases import database_now
from tests.evaluations.engine.workers import InBackground, work_until_idle
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
from tests.judgements import judgement, judgements
from tests.patience import patience, slowness, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def actor():
    return make_actor()


@pytest.fixture
def endpoint(actor, server) -> ModelEndpoint:
    models = [
        "m",
        "slow:0.5",
        "slow:60",
        "hang",
        "fail-400",
        "flaky:1:fail-503",
        "fail-429-retry-after:6",
    ]
    return make_endpoint(actor, server.base_url, models=models, concurrency=8)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(plan_module, "GRADING_ROWS", 20)
    monkeypatch.setattr(plan_module, "ASKING_ROWS", 5)


def finished(run):
    run.refresh_from_db()
    return run.is_final


def counts(run):
    run.refresh_from_db()
    return (run.state, run.passed_count, run.failed_count, run.errored_count)


def test_a_worker_that_waits_hears_of_a_run_at_once(actor, settings):
    settings.ENGINE_LOOK_SECONDS = settings.ENGINE_LINGER_SECONDS = patience(20)
    with InBackground():
        wait_until(WorkerHeartbeat.objects.exists)
        time.sleep(0.3)  # it has looked by now, and waits
        run = make_run(actor)
        wait_until(lambda: finished(run), 5)
        settings.ENGINE_LINGER_SECONDS = 0
        bells.ring()


def test_recorded_answers_are_judged(actor, small_shards):
    run = make_run(actor, source=90)
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 60, 30, 0)
    assert not WorkerHeartbeat.objects.exists()


def test_a_model_is_asked_once_for_every_row(actor, endpoint, server, small_shards):
    run = make_run(actor, source=42, target=ask("m"))
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 42, 0, 0)
    asked = server.counts()
    assert asked["prompts"] == {f"label {number}": 1 for number in range(42)}
    assert asked["max_in_flight"] <= 8
    (usage,) = reports.summary(run).usage
    assert (usage.model, usage.calls, usage.prompt_tokens) == ("m", 42, 84)
    result = Result.objects.in_order()[7]
    assert complete_sample(json.loads(result.sample))["output_text"] == "label 7"
    assert json.loads(result.exchange)["input"] == [{"role": "user", "content": "label 7"}]
    assert not EndpointSlot.objects.exists()


def test_one_worker_alone_uses_the_whole_concurrency(actor, endpoint, server):
    make_run(actor, source=40, target=ask("slow:0.5"))
    work_until_idle()
    assert server.counts()["max_in_flight"] == 8


def test_repeats_are_asked_for_and_stored_apart(actor, endpoint, server, small_shards):
    run = make_run(actor, source=7, target=ask("m"), repeats=3)
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 21, 0, 0)
    assert set(server.counts()["prompts"].values()) == {3}


def test_the_cases_of_a_version_are_asked(actor, endpoint, small_shards):
    items = [{"label": f"case {number}"} for number in range(12)]
    run = make_run(actor, source=make_version(actor, items=items), target=ask("m"))
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 12, 0, 0)


def test_messages_may_come_from_the_row(actor, endpoint):
    rows = [{"item": {"label": "b", "messages": [{"role": "user", "content": "b"}]}}, {"item": {}}]
    target = ask("m").__class__("m", reference="item.messages")
    run = make_run(actor, source=rows, target=target)
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 1, 0, 1)
    assert Result.objects.get(row_index=1).error_code == "invalid_prompt"


def test_built_in_models_answer_without_an_endpoint(actor, small_shards):
    make_version(
        actor,
        name="lessons",
        label_field="label",
        items=[{"text": f"ticket {number}", "label": f"label {number}"} for number in range(5)],
    )
    runs = [
        make_run(actor, source=11, target=ask(f"builtin/{model}", "{{ item.text }}"))
        for model in ("echo", "majority:lessons", "nearest:lessons")
    ]
    work_until_idle()
    assert [counts(run)[0] for run in runs] == [Run.State.COMPLETED] * 3
    assert [counts(run)[1] for run in runs] == [0, 1, 5]


def test_many_runs_of_many_accounts_all_complete(server, small_shards):
    runs = []
    for _ in range(3):
        actor = make_actor()
        make_endpoint(actor, server.base_url, concurrency=3)
        runs += [make_run(actor, source=12, target=ask("m")), make_run(actor, source=50)]
    work_until_idle()
    assert {counts(run)[0] for run in runs} == {Run.State.COMPLETED}


def test_criteria_are_each_judged_once(actor):
    evaluation = make_evaluation(actor, criteria=[SAME, SAME, SAME])
    run = make_run(actor, evaluation=evaluation, source=30)
    work_until_idle()
    run.refresh_from_db()
    assert [(one.passed, one.failed) for one in reports.summary(run).criteria] == [(20, 10)] * 3


def test_what_a_model_refuses_is_errored_with_its_reason(actor, endpoint):
    run = make_run(actor, source=5, target=ask("fail-400"))
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 0, 0, 5)
    result = Result.objects.first()
    assert result.error_code == "model_rejected"
    assert judgements()[0].error_code == "model_rejected"


def test_a_server_that_falters_costs_no_item(actor, endpoint, server):
    run = make_run(actor, source=10, target=ask("flaky:1:fail-503"))
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 10, 0, 0)
    (usage,) = reports.summary(run).usage
    assert usage.calls == server.counts()["total"] == 20


def test_an_errored_item_fails_a_run_at_once_that_wants_that(actor, endpoint, server, small_shards):
    run = make_run(actor, source=400, target=ask("fail-400"), on_error="fail")
    work_until_idle()
    assert counts(run)[0] == Run.State.FAILED
    assert run.error_message.startswith("Row ")
    assert server.counts()["total"] < 200


def test_a_grader_that_raises_errs_its_row_and_no_other(actor, monkeypatch):
    real = StringCheck.mark

    def mark(self, sample):
        if sample.item["text"] == "ticket 4":
            raise RuntimeError("a bug")
        return real(self, sample)

    monkeypatch.setattr(StringCheck, "mark", mark)
    run = make_run(actor, source=9)
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 5, 3, 1)
    assert judgement(row_index=4).error_message == "RuntimeError: a bug"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_errs_its_row(actor, monkeypatch, value):
    monkeypatch.setattr(StringCheck, "mark", lambda self, sample: Mark(value, True))
    run = make_run(actor, source=3)
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 0, 0, 3)


def test_a_client_with_a_bug_errs_its_items(actor, monkeypatch):
    async def complete(self, request):
        raise KeyError("choices")

    monkeypatch.setattr("apps.clients.builtin.Echo.complete", complete)
    run = make_run(actor, source=3, target=ask())
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 0, 0, 3)
    assert Result.objects.first().error_message == "KeyError: 'choices'"


def test_a_run_over_a_disabled_endpoint_fails_with_a_reason(actor, endpoint):
    run = make_run(actor, source=3, target=ask("m"))
    ModelEndpoint.objects.update(disabled_at=timezone.now())
    work_until_idle()
    assert counts(run)[0] == Run.State.FAILED
    assert "gone or disabled" in run.error_message


def test_a_file_that_is_deleted_meanwhile_is_read_to_its_end(actor, small_shards):
    content = b"\n".join(json.dumps(row).encode() for row in make_rows(90))
    file = store_file(actor, filename="rows.jsonl", purpose="evals", chunks=[content])
    run = make_run(actor, source=file)
    delete_file(actor, file)
    assert purge_files() == 0
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 60, 30, 0)
    assert purge_files() == 0


def test_what_nobody_closed_is_closed_by_the_sweep(actor, monkeypatch):
    run = make_run(actor, source=3)
    with monkeypatch.context() as patch:
        patch.setattr("apps.evaluations.engine.writer.close_run", lambda _: False)
        work_until_idle()
    assert counts(run)[0] == Run.State.RUNNING
    assert not sweep_runs()
    assert counts(run) == (Run.State.COMPLETED, 2, 1, 0)


@pytest.mark.parametrize("model", ["slow:0.5", "hang", "fail-429-retry-after:6"])
def test_a_canceled_run_calls_no_more_and_its_counts_freeze(
    actor, endpoint, server, small_shards, model
):
    run = make_run(actor, source=200, target=ask(model))
    with InBackground():
        wait_until(lambda: server.counts()["total"] >= 8)
        time.sleep(0.7)
        cancel_run(actor, run)
        frozen = counts(run)
        results = Result.objects.count()
    assert counts(run) == frozen
    assert Result.objects.count() == results
    wait_until(lambda: server.counts()["in_flight"] == 0)
    if model != "fail-429-retry-after:6":  # whoever waits that long gives its slot to another
        assert server.counts()["total"] < 100


def test_other_runs_go_on_when_one_is_canceled(actor, endpoint, server, small_shards):
    canceled = make_run(actor, source=100, target=ask("slow:0.5"))
    other = make_run(actor, source=20, target=ask("m"))
    with InBackground():
        wait_until(lambda: server.counts()["total"] >= 8)
        cancel_run(actor, canceled)
    assert counts(other) == (Run.State.COMPLETED, 20, 0, 0)


def test_grading_stops_for_a_canceled_run(actor, small_shards, monkeypatch):
    graded = []
    real = StringCheck.mark

    def mark(self, sample):
        time.sleep(0.005)
        graded.append(1)
        return real(self, sample)

    monkeypatch.setattr(StringCheck, "mark", mark)
    run = make_run(actor, source=2_000)
    with InBackground():
        wait_until(lambda: graded)
        cancel_run(actor, run)
        frozen = counts(run)
    assert len(graded) < 2_000
    assert counts(run) == frozen


def test_a_slice_ends_in_time_stores_what_it_has_and_says_that_there_is_more(
    actor, endpoint, server, small_shards, settings
):
    settings.ENGINE_SLICE_SECONDS = 1
    run = make_run(actor, source=200, target=ask("slow:0.5"))
    assert Worker().run()
    asked = server.counts()["total"]
    assert 8 <= asked < 100
    assert Result.objects.count() == asked
    assert not Shard.objects.filter(lease_token__isnull=False).exists()
    assert not Shard.objects.filter(attempts__gt=0).exists()
    assert not EndpointSlot.objects.exists()
    settings.ENGINE_SLICE_SECONDS = 120
    Run.objects.update(target=run.target.replace("slow:0.5", "m"))
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 200, 0, 0)
    assert set(server.counts()["prompts"].values()) == {1}


def test_recorded_rows_are_let_go_at_a_slices_end(actor, settings):
    settings.ENGINE_SLICE_SECONDS = 0.05
    settings.ENGINE_LINGER_SECONDS = 5
    run = make_run(actor, source=8_000)
    slices = 0
    while not finished(run):
        assert Worker().run()
        slices += 1
    assert 1 < slices < 200


def test_an_answered_item_is_judged_although_the_slice_ends(actor, endpoint, server, settings):
    """Its judge is asked while draining: a second answer would cost more than a late end."""
    settings.ENGINE_SLICE_SECONDS = 0.6
    judge = NewCriterion(
        "score_model",
        "judge",
        {
            "model": "slow:0.5",
            "input": [{"role": "user", "content": "judge {{ sample.output_text }}"}],
            "range": [0, 1],
        },
    )
    evaluation = make_evaluation(actor, criteria=[judge])
    run = make_run(actor, evaluation=evaluation, source=4, target=ask("slow:0.5"))
    Worker().run()
    prompts = server.counts()["prompts"]
    assert all(prompts[f"label {number}"] == 1 for number in range(4))
    assert Result.objects.count() == 4
    work_until_idle()
    assert counts(run)[0] == Run.State.COMPLETED
    assert all(server.counts()["prompts"][f"label {number}"] == 1 for number in range(4))


def test_a_worker_that_is_called_off_sends_nothing_more_and_leaves_in_time(
    actor, endpoint, server, small_shards, settings, monkeypatch
):
    settings.ENGINE_DRAIN_SECONDS = 1
    run = make_run(actor, source=100, target=ask("slow:60"))
    supervised, lifeline = os.pipe()
    monkeypatch.setenv(STOP_FD_VARIABLE, str(supervised))
    with InBackground() as background:
        wait_until(lambda: server.counts()["total"] == 8)
        os.close(lifeline)
        began = time.monotonic()
        background.join(patience(10))
        # Neither at once nor only when the calls end.
        assert 0.9 < time.monotonic() - began < 60
        assert background.has_more
    os.close(supervised)
    assert server.counts()["total"] == 8
    assert not Shard.objects.filter(lease_token__isnull=False).exists()
    assert counts(run)[0] == Run.State.RUNNING


def test_a_worker_whose_leases_run_out_cuts_its_calls_and_errs_nothing(
    actor, endpoint, server, settings, monkeypatch
):
    """Others may take its slots, so that what it has in flight would be too much."""
    settings.ENGINE_LEASE_SECONDS = 1
    settings.ENGINE_RENEW_SECONDS = 0.2
    make_run(actor, source=8, target=ask("hang"))
    with InBackground() as background:
        wait_until(lambda: server.counts()["in_flight"] == 8)

        def renew_leases(worker, held, endpoints):
            raise OperationalError("gone away")

        monkeypatch.setattr(keeper_module, "renew_leases", renew_leases)
        wait_until(lambda: server.counts()["in_flight"] == 0)
        background.join(patience(10))
        assert background.has_more
    assert not Result.objects.exists()


def test_a_worker_without_a_slot_does_not_hold_up_its_end(actor, endpoint, settings, small_shards):
    """Another worker has all slots; this one waits for nothing when its slice is over."""
    settings.ENGINE_SLICE_SECONDS = 0.5
    run = make_run(actor, source=10, target=ask("m"))
    other = EndpointSlot.objects.create(
        endpoint=endpoint,
        worker=run.pk,
        wanted=100,
        granted=8,
        lease_until=database_now().replace(year=2100),
    )
    assert Worker().run()
    other.delete()


def test_a_long_grading_does_not_lose_its_lease(actor, settings, monkeypatch):
    lease = 1.5 * slowness()
    settings.ENGINE_LEASE_SECONDS = lease
    settings.ENGINE_RENEW_SECONDS = 0.2

    def mark(self, sample):
        time.sleep(2 * lease)
        return Mark(1.0, True)

    monkeypatch.setattr(StringCheck, "mark", mark)
    run = make_run(actor, source=1)
    with InBackground():
        wait_until(lambda: Shard.objects.filter(lease_token__isnull=False).exists())
        for _ in range(16):
            shard = Shard.objects.get()
            assert shard.finished_at or shard.lease_until > database_now()
            time.sleep(lease / 10)
    assert counts(run) == (Run.State.COMPLETED, 1, 0, 0)
    assert Shard.objects.get().attempts == 0


def test_a_poll_that_fails_in_the_middle_delays_its_claims_by_a_lease(actor, settings, monkeypatch):
    settings.ENGINE_LEASE_SECONDS = 0.5
    settings.ENGINE_RENEW_SECONDS = 0.1
    settings.ENGINE_LINGER_SECONDS = 2
    failures = []
    real = SlotShares.share

    def share(self, state, assignments):
        if assignments.claims and not failures:
            failures.append(1)
            raise OperationalError("gone away")
        real(self, state, assignments)

    monkeypatch.setattr(SlotShares, "share", share)
    run = make_run(actor, source=3)
    Worker().run()
    assert failures
    assert counts(run) == (Run.State.COMPLETED, 2, 1, 0)


def test_a_database_that_is_away_for_a_while_costs_nothing(actor, endpoint, server, monkeypatch):
    run = make_run(actor, source=40, target=ask("slow:0.5"))
    away_until = time.monotonic() + 2
    real = store_module._insert

    def insert(batches):
        if time.monotonic() < away_until:
            raise OperationalError("gone away")
        real(batches)

    monkeypatch.setattr(store_module, "_insert", insert)
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 40, 0, 0)
    assert set(server.counts()["prompts"].values()) == {1}


def test_a_worker_that_lost_a_shard_stops_asking_for_it(actor, endpoint, server, small_shards):
    run = make_run(actor, source=5, target=ask("slow:0.5"))
    with InBackground():
        wait_until(lambda: server.counts()["total"] == 5)
        # As if another had claimed it and is at work.
        Shard.objects.update(
            lease_token=run.pk, worker=run.pk, lease_until=database_now().replace(year=2100)
        )
    assert Result.objects.count() == 0
    Shard.objects.update(lease_token=None, worker=None, lease_until=None)
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 5, 0, 0)


def test_planning_is_taken_up_again_when_the_database_was_away(actor, settings, monkeypatch):
    settings.ENGINE_LEASE_SECONDS = 0.5
    settings.ENGINE_RENEW_SECONDS = 0.1
    settings.ENGINE_LINGER_SECONDS = 2
    real = plan_module._keep
    failures = []

    def keep(run, shards):
        if not failures:
            failures.append(1)
            raise OperationalError("gone away")
        real(run, shards)

    monkeypatch.setattr(plan_module, "_keep", keep)
    run = make_run(actor, source=3)
    Worker().run()
    assert counts(run) == (Run.State.COMPLETED, 2, 1, 0)


def test_a_retry_asks_only_for_what_is_errored(actor, endpoint, server, small_shards):
    rows = make_rows(20)
    del rows[3]["item"]["label"], rows[11]["item"]["label"]
    run = make_run(actor, source=rows, target=ask("m"))
    work_until_idle()
    assert counts(run) == (Run.State.COMPLETED, 18, 0, 2)
    server.reset()
    again = retry_errored(actor, run)
    work_until_idle()
    assert counts(again) == (Run.State.COMPLETED, 18, 0, 2)
    assert server.counts()["total"] == 0


def test_finishing_tells_once_after_the_commit(actor):
    told = []

    def hear(run_id, **_):
        told.append((run_id, Run.objects.get(pk=run_id).state))

    close_module.run_finished.connect(hear)
    try:
        run = make_run(actor, source=3)
        work_until_idle()
    finally:
        close_module.run_finished.disconnect(hear)
    assert told == [(run.pk, Run.State.COMPLETED)]
