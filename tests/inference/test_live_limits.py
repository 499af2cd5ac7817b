"""Calls outside of runs: they are turned away while an endpoint is paused, and pause it for all."""

import time
from datetime import timedelta

import pytest

from apps.clients import CallFailed, Refusal
from apps.errors import LimitError
from apps.evaluations.services.quick_judging import judge_items, with_recorded_answer
from apps.grading.graders import build_grader
from apps.inference.endpoints import forget_limits
from apps.inference.live_calls import LiveCall
from apps.inference.live_limits import LiveLimiter
from apps.inference.models import EndpointPace
from apps.inference.paces import look, waits
from apps.leases import database_now
from tests.factories import make_actor, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)

REFUSING = "fail-429-retry-after:30"


@pytest.fixture
def actor():
    return make_actor()


def call(actor, model):
    messages = [{"role": "user", "content": "Hello?"}]
    return LiveCall(actor, model=model, request={"messages": messages}).answer()


def test_a_refused_call_pauses_the_endpoint_for_the_next(actor, server):
    endpoint = make_endpoint(actor, server.base_url, models=[REFUSING, "m"])
    for asked in (REFUSING, "m"):
        with pytest.raises(CallFailed) as failed:
            call(actor, asked)
        assert (failed.value.code, failed.value.status) == ("model_rate_limited", 429)
        assert 25 < failed.value.retry_after <= 30
    # The second was not sent.
    assert server.counts()["total"] == 1
    [wait] = waits([endpoint.pk])
    assert wait.until > database_now() + timedelta(seconds=25)
    # Nothing was in flight that should be less.
    assert EndpointPace.objects.get().concurrency is None
    forget_limits(actor, endpoint)
    call(actor, "m")


def test_a_call_after_the_pause_ends_it(actor, server):
    endpoint = make_endpoint(actor, server.base_url, models=[REFUSING, "m"])
    with pytest.raises(CallFailed):
        call(actor, REFUSING)
    EndpointPace.objects.update(paused_until=database_now() - timedelta(seconds=1))
    call(actor, "m")
    assert not look([endpoint.pk]).restricted


def test_calls_keep_to_a_limit_that_was_set_by_hand(actor, server):
    make_endpoint(actor, server.base_url, requests_per_minute=2)
    call(actor, "m")
    call(actor, "m")
    with pytest.raises(CallFailed) as failed:
        call(actor, "m")
    assert (failed.value.status, server.counts()["total"]) == (429, 2)


def test_a_denial_is_its_callers_alone(actor, server):
    make_endpoint(actor, server.base_url, models=["fail-403"])
    with pytest.raises(CallFailed) as failed:
        call(actor, "fail-403")
    assert failed.value.code == "model_server_refused"
    assert not EndpointPace.objects.exists()


def test_a_trial_of_a_judge_says_until_when_its_server_is_paused(actor, server):
    endpoint = make_endpoint(actor, server.base_url)
    limiter = LiveLimiter(endpoint.pk)
    limiter.refused(Refusal(429, "Slow down.", time.monotonic(), 60.0))
    limiter.tell()
    settings = {
        "model": "m",
        "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
        "range": [0, 1],
    }
    answered = with_recorded_answer(0, {"label": "a"}, {"output_text": "a"})
    with pytest.raises(LimitError, match=r"Paused by the judge's model server until .*Slow down"):
        judge_items(actor.account.pk, [build_grader("score_model", settings)], [answered])
