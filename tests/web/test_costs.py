"""Pages tell what runs cost, and may cost."""

from decimal import Decimal

import pytest
from django.urls import reverse

from apps.evaluations.costs import picos_of
from apps.evaluations.engine.spending import add_to_month
from apps.evaluations.models import Result, key_of
from apps.evaluations.services.spending import set_limits
from apps.evaluations.tally import Tally
from tests.evaluations.priced_runs import JUDGE, ended, plan_by_hand, price
from tests.factories import (
    ask,
    make_actor,
    make_endpoint,
    make_evaluation,
    make_run,
)
from tests.web.pages import text_of
from tests.web.worked import browser_of

pytestmark = pytest.mark.django_db
NONE = {"monthly_budget": None, "run_budget": None, "run_max_calls": None}


@pytest.fixture
def actor():
    found = make_actor()
    make_endpoint(found, "http://127.0.0.1:9/v1", models=["m", "judge"])
    return found


def test_a_runs_page_tells_its_cost_and_what_a_retry_may_cost(actor) -> None:
    price(actor, "m", "1000", "1000")
    run = make_run(actor, target=ask("m"), max_calls=1000)
    tally = Tally()
    tally.use("m", [6, 60, 30, 90, 0])
    tally.use("judge", [6, 6, 6, 12, 0], judging=True)
    ended(run, tally, errored=2)
    plan_by_hand(run)
    Result.objects.create(
        id=key_of(run.number, 0), stored_at=0, state="errored", error_code="budget"
    )
    browser = browser_of(actor)
    page = text_of(browser.get(reverse("web:run", args=[run.pk])))
    assert "m answers 6 60 0 30 90 0.09" in page
    assert "judge judgements 6 6 0 6 12 unknown" in page
    assert "Answers cost 0.09, judgements unknown, together 0.09 + unknown" in page
    assert "Calls at most 1,000" in page
    assert "About 2 calls for 2 results" in page
    assert "0.09 + unknown" in text_of(browser.get("/app/runs/"))


def test_the_list_of_runs_tells_what_the_month_has_cost(actor) -> None:
    add_to_month(actor.account.pk, picos_of(Decimal("1.25")), stripe=None)
    browser = browser_of(actor)
    assert "1.25 spent on models in" in text_of(browser.get("/app/runs/"))
    set_limits(actor, actor.account, **{**NONE, "monthly_budget": Decimal(10)})
    assert "1.25 of 10.00 spent on models in" in text_of(browser.get("/app/runs/"))
    assert "spent on models" not in text_of(browser_of(make_actor()).get("/app/runs/"))


def test_the_form_of_grading_again_tells_what_it_may_cost(actor) -> None:
    evaluation = make_evaluation(actor, criteria=[JUDGE])
    run = ended(make_run(actor, target=ask("m"), evaluation=evaluation))
    plan_by_hand(run)
    Result.objects.create(id=key_of(run.number, 0), stored_at=0, state="passed")
    page = text_of(browser_of(actor).get(reverse("web:regrade_run", args=[run.pk])))
    assert "About 6 calls for 6 results; judge judges" in page
    assert "Cost: unknown, for a price is missing" in page
