"""Runs are estimated before they start."""

from decimal import Decimal

import pytest
from django.core.exceptions import PermissionDenied
from django.core.management import call_command

from apps.evaluations.models import Run
from apps.evaluations.services.estimates import estimate_regrade, estimate_retry
from apps.evaluations.tally import Tally
from tests.evaluations.priced_runs import JUDGE, ended, plan_by_hand, price
from tests.factories import (
    SAME,
    ask,
    make_actor,
    make_endpoint,
    make_evaluation,
    make_run,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def actor():
    found = make_actor()
    make_endpoint(found, "http://127.0.0.1:9/v1", models=["m", "judge"])
    return found


def estimated(actor, run):
    [one] = estimate_retry(actor, run).models
    return one


def test_a_retry_is_estimated_by_what_such_runs_took(actor) -> None:
    price(actor, "m", "1000", "1000")
    evaluation = make_evaluation(actor)
    tally = Tally()
    tally.use("m", [6, 60, 30, 90, 0])
    ended(make_run(actor, evaluation=evaluation, target=ask("m")), tally)
    run = ended(make_run(actor, evaluation=evaluation, target=ask("m")), errored=2)
    plan_by_hand(run)
    one = estimated(actor, run)
    assert (one.calls, one.prompt_tokens, one.completion_tokens) == (2, (20, 20), (10, 10))
    assert estimate_retry(actor, run).cost == (Decimal("0.03"), Decimal("0.03"))
    assert "earlier runs" in estimate_retry(actor, run).basis


def test_without_such_runs_an_estimate_counts_characters_and_says_so(actor) -> None:
    target = ask("m", prompt="x" * 400, params={"max_tokens": 50})
    run = ended(make_run(actor, target=target), errored=6)
    plan_by_hand(run)
    one = estimated(actor, run)
    assert 600 <= one.prompt_tokens[0] == one.prompt_tokens[1] <= 700
    assert one.completion_tokens == (6, 300)
    assert (one.cost, estimate_retry(actor, run).cost) == (None, None)
    assert "4 characters" in estimate_retry(actor, run).basis


def test_grading_again_is_estimated_by_its_judges_alone(actor, capsys) -> None:
    price(actor, "judge", "10", "10")
    run = ended(make_run(actor, target=ask("m")))
    plan_by_hand(run)
    assert estimate_regrade(actor, run).calls == 0
    estimate = estimate_regrade(actor, run, criteria=[SAME, JUDGE])
    assert (estimate.items, estimate.calls) == (6, 6)
    assert estimate.models[0].is_judging
    low, high = estimate.cost
    assert 0 < low < high
    with pytest.raises(PermissionDenied):
        estimate_regrade(make_actor(), run)
    call_command("regrade_run", str(run.pk), "--dry-run")
    assert "6 results, 0 calls, cost 0.00 to 0.00." in capsys.readouterr().out
    assert Run.objects.count() == 1
