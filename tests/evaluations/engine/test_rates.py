"""Runs against a model server that takes a number of calls in a time: rows wait, none is lost.

Times are a tenth of those that people met; `benchmarks/rate_limits.py` runs the full ones.
"""

import time
from datetime import timedelta

import pytest

from apps.evaluations.models import Result, Run
from apps.evaluations.reports.summaries import summary
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.services.runs import cancel_run, retry_errored
from apps.inference.models import EndpointPace
from apps.inference.paces import waits
from apps.leases import database_now
from tests.evaluations.engine.workers import InBackground, work_until_idle, workers
from tests.factories import SAME, ask, make_actor, make_endpoint, make_evaluation, make_run
from tests.patience import patience

pytestmark = pytest.mark.django_db(transaction=True)

FIVE_IN_TWO, FIVE_IN_SIX = "limited:5:2:retry-after", "limited:5:6:retry-after"
TWENTY_IN_THREE, UNAVAILABLE = "limited:20:3:silent", "limited:5:2:unavailable"
REMAINING, BUSY = "limited:5:1:remaining", "busy:4"
FIVE_IN_ONE = "limited:5:1.2:retry-after"
JUDGE = 'answer:{"steps": [], "result": 0.9}'
JUDGED = NewCriterion(
    "score_model",
    "kind",
    {
        "model": "judge",
        "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
        "pass_threshold": 0.5,
        "range": [0, 1],
    },
)


@pytest.fixture
def actor():
    return make_actor()


def serve(actor, server, *models, concurrency=64, **options):
    return make_endpoint(actor, server.base_url, models=models, concurrency=concurrency, **options)


def work(run, seconds=60):
    ends_at = time.monotonic() + patience(seconds)
    while not run.is_final and time.monotonic() < ends_at:
        work_until_idle()
        run.refresh_from_db()
    return run


def calls_of(run):
    """The calls that the run counts, answers and judgements together."""
    return sum(line.usage.calls for line in summary(run).spending.models)


def refused(server):
    return sum(server.counts()["refused"].values())


def test_rate_limits_err_no_row_and_waste_few_calls(server):
    """All at the same time, by one worker: each waits for its own server."""
    limits = {FIVE_IN_TWO: 30, FIVE_IN_SIX: 30, TWENTY_IN_THREE: 60, UNAVAILABLE: 30}
    runs = {}
    for concurrency in (64, 2):
        for limit, rows in limits.items():
            actor, model = make_actor(), f"{limit}:{concurrency}"
            serve(actor, server, model, concurrency=concurrency)
            runs[model] = make_run(actor, source=rows, target=ask(model))
    for run in runs.values():
        work(run)
    counts = server.counts()
    for model, run in runs.items():
        rows, concurrency = run.row_count, int(model.rpartition(":")[2])
        assert (run.state, run.passed_count) == (Run.State.COMPLETED, rows), model
        few = min(rows, concurrency) + rows / 5
        if concurrency == 2:
            few = rows * (1.5 if "silent" in model else 0.5)
        assert counts["refused"][model] <= few, model
        assert calls_of(run) == counts["models"][model] == rows + counts["refused"][model], model


def test_what_the_headers_say_is_left_costs_no_refusal(actor, server):
    serve(actor, server, REMAINING, concurrency=2)
    run = work(make_run(actor, source=15, target=ask(REMAINING)))
    assert (run.passed_count, refused(server)) == (15, 0)


def test_fewer_calls_are_in_flight_after_a_refusal_and_slowly_more(actor, server):
    endpoint = serve(actor, server, BUSY, concurrency=32)
    run = work(make_run(actor, source=120, target=ask(BUSY)))
    pace = EndpointPace.objects.get(endpoint=endpoint)
    assert (run.passed_count, run.errored_count) == (120, 0)
    assert pace.concurrency <= 16
    assert calls_of(run) == server.counts()["total"] == 120 + refused(server)


def test_an_endpoint_that_never_refused_has_no_pace_and_all_its_slots_at_once(actor, server):
    serve(actor, server, "slow:0.2", concurrency=32)
    work(make_run(actor, source=64, target=ask("slow:0.2")))
    assert server.counts()["max_in_flight"] == 32
    assert not EndpointPace.objects.exists()


def test_a_second_run_begins_with_what_the_first_has_learned(actor, server):
    serve(actor, server, FIVE_IN_ONE)
    work(make_run(actor, source=10, target=ask(FIVE_IN_ONE)))
    pace = EndpointPace.objects.get()
    assert (pace.calls, 1.1 < pace.window_seconds < 2) == (5, True)
    # Windows of the first run are over.
    time.sleep(1.5)
    server.reset()
    run = work(make_run(actor, source=10, target=ask(FIVE_IN_ONE)))
    assert (run.passed_count, run.errored_count) == (10, 0)
    assert refused(server) <= 2


def test_a_judges_pause_costs_no_answer_even_when_a_slice_ends(actor, server, settings):
    settings.ENGINE_SLICE_SECONDS = 1.0
    endpoint = serve(actor, server, "m", aliases={"judge": JUDGE})
    limited = {"judge": FIVE_IN_ONE}
    endpoint.models.filter(name="judge").update(upstream_name=limited["judge"])
    evaluation = make_evaluation(actor, criteria=[SAME, JUDGED])
    run = work(make_run(actor, evaluation=evaluation, source=10, target=ask("m")))
    assert server.counts()["models"]["m"] == 10  # no answer was asked twice
    assert calls_of(run) == server.counts()["total"]


def test_rows_that_wait_when_a_slice_ends_lose_neither_answers_nor_counts(actor, server, settings):
    settings.ENGINE_SLICE_SECONDS = 1.0
    serve(actor, server, FIVE_IN_ONE)
    run = work(make_run(actor, source=15, target=ask(FIVE_IN_ONE)))
    assert (run.passed_count, run.errored_count) == (15, 0)
    assert calls_of(run) == server.counts()["total"]


def test_a_limit_set_by_hand_is_kept(actor, server):
    serve(actor, server, "m", requests_per_minute=12)
    run = make_run(actor, source=20, target=ask("m"))
    with InBackground() as worker:
        time.sleep(1.5)
        assert server.counts()["total"] == 12
        cancel_run(actor, run)
    assert worker.has_more is False


def test_tokens_a_minute_are_kept_once_a_call_has_told_what_it_takes(actor, server):
    # A call takes two tokens: a word there and back.
    serve(actor, server, "answer:yes", tokens_per_minute=30)
    run = make_run(actor, source=40, target=ask("answer:yes"))
    with InBackground():
        time.sleep(2)
        asked = server.counts()["total"]
        cancel_run(actor, run)
    tokens = 3 if asked < 14 else 2
    assert 4 < asked <= 30 / tokens + 4


def test_the_wait_is_shown_and_a_cancellation_ends_it(actor, server):
    endpoint = serve(actor, server, "fail-429-retry-after:300")
    run = make_run(actor, source=5, target=ask("fail-429-retry-after:300"))
    with InBackground():
        ends_at = time.monotonic() + patience(5)
        while not (found := waits([endpoint.pk])) and time.monotonic() < ends_at:
            time.sleep(0.05)
        [wait] = found
        assert timedelta(seconds=290) < wait.until - database_now() <= timedelta(seconds=300)
        assert "answered 429" in wait.words
        cancel_run(actor, run)
    assert server.counts()["total"] <= 5


def test_rows_are_errored_in_words_when_no_call_is_taken_for_too_long(actor, server, settings):
    settings.ENGINE_REFUSED_SECONDS = 1.5
    serve(actor, server, "fail-429")
    run = work(make_run(actor, source=8, target=ask("fail-429")))
    assert (run.state, run.errored_count) == (Run.State.COMPLETED, 8)
    first = Result.objects.of_run(run).first_errored()
    assert first.error_code == "model_rate_limited"
    assert first.error_message.startswith("The model server took no call for 2 seconds. It says: ")
    assert calls_of(run) == server.counts()["total"] <= 8 + 4


def test_a_server_that_was_given_up_is_tried_again(actor, server, settings, monkeypatch):
    settings.ENGINE_REFUSED_SECONDS = 0.6
    serve(actor, server, "until:0:fail-429", "m")
    work(make_run(actor, source=3, target=ask("until:0:fail-429")))
    EndpointPace.objects.update(paused_until=database_now() - timedelta(seconds=1))
    run = work(make_run(actor, source=30, target=ask("m")))
    assert (run.passed_count, run.errored_count) == (30, 0)


@pytest.mark.parametrize("status", [401, 403])
def test_a_run_whose_first_calls_are_denied_fails_with_the_servers_words(actor, server, status):
    serve(actor, server, f"fail-{status}", concurrency=2)
    run = work(make_run(actor, source=40, target=ask(f"fail-{status}")))
    assert (run.state, run.error_code) == (Run.State.FAILED, "model_server_refused")
    assert run.error_message == f"The model server answered {status}: answered {status} as asked"
    assert 5 <= server.counts()["total"] <= 5 + 1  # the other was in flight
    assert calls_of(run) == server.counts()["total"]


def test_a_run_of_five_rows_fails_too(actor, server):
    serve(actor, server, "fail-401")
    run = work(make_run(actor, source=5, target=ask("fail-401")))
    assert (run.state, run.errored_count) == (Run.State.FAILED, 5)


def test_a_run_of_fewer_rows_has_them_errored(actor, server):
    serve(actor, server, "fail-401")
    run = work(make_run(actor, source=4, target=ask("fail-401")))
    assert (run.state, run.errored_count) == (Run.State.COMPLETED, 4)


def test_a_denial_after_an_answer_errs_rows_and_pauses_the_endpoint(actor, server, settings):
    settings.ENGINE_REFUSED_SECONDS = 1.0
    endpoint = serve(actor, server, "until:4:fail-401", concurrency=2)
    run = work(make_run(actor, source=20, target=ask("until:4:fail-401")))
    assert (run.state, run.passed_count, run.errored_count) == (Run.State.COMPLETED, 4, 16)
    assert {one.error_code for one in Result.objects.of_run(run).filter(state="errored")} == {
        "model_server_refused"
    }
    assert EndpointPace.objects.get(endpoint=endpoint).status == 401
    assert server.counts()["total"] < 20
    assert calls_of(run) == server.counts()["total"]


def test_retry_errored_takes_up_a_run_that_was_denied(actor, server):
    endpoint = serve(actor, server, "fail-401", concurrency=2)
    run = work(make_run(actor, source=12, target=ask("fail-401")))
    target = run.target.replace('"upstream":"fail-401"', '"upstream":"m"')
    assert target != run.target
    Run.objects.filter(pk=run.pk).update(target=target)
    run.refresh_from_db()
    assert endpoint.models.count() == 1
    again = work(retry_errored(actor, run))
    assert (again.state, again.passed_count, again.errored_count) == (Run.State.COMPLETED, 12, 0)


def test_a_judges_denials_err_its_rows_alone(actor, server, settings):
    settings.ENGINE_REFUSED_SECONDS = 1.0
    serve(actor, server, "m", aliases={"judge": "fail-401"})
    evaluation = make_evaluation(actor, criteria=[SAME, JUDGED])
    run = work(make_run(actor, evaluation=evaluation, source=8, target=ask("m")))
    assert (run.state, run.errored_count) == (Run.State.COMPLETED, 8)
    assert Result.objects.of_run(run).filter(sample__isnull=False).count() == 8


def test_a_refused_row_keeps_its_patience_for_other_failures(actor, server):
    """A row that waited for its turn longer than for connections is still tried again."""
    serve(actor, server, "flaky:1:fail-429-retry-after:1")
    run = work(make_run(actor, source=3, target=ask("flaky:1:fail-429-retry-after:1")))
    assert (run.passed_count, run.errored_count) == (3, 0)
    assert calls_of(run) == server.counts()["total"]


def test_workers_of_other_processes_hear_of_a_pause(actor, server):
    serve(actor, server, TWENTY_IN_THREE, concurrency=6)
    run = make_run(actor, source=30, target=ask(TWENTY_IN_THREE))
    with workers(2) as running:
        for one in running:
            one.wait(patience(60))
    work(run)
    counts = server.counts()
    assert (run.passed_count, run.errored_count) == (30, 0)
    assert refused(server) <= 6 + 30 / 5
    assert calls_of(run) == counts["total"]
