"""Limits as services and pages take them, costs as they are told, and estimates."""

from decimal import Decimal

import pytest
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.errors import Invalid, Unfit, dotted
from apps.evaluations.costs import PriceList, Prices, money_of, picos_of, shown_money
from apps.evaluations.engine.spending import add_to_month, give_back_calls, month_picos, take_calls
from apps.evaluations.exports import summary_table
from apps.evaluations.models import MonthSpending, Result, Run, SpendingLimits
from apps.evaluations.services.estimates import estimate_regrade, estimate_retry
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.services.runs import successor_of
from apps.evaluations.services.spending import set_limits, this_month
from apps.evaluations.tally import Tally
from apps.ids import new_id
from apps.inference.endpoints import set_prices
from apps.inference.models import ServedModel
from tests.factories import (
    SAME,
    ask,
    make_actor,
    make_endpoint,
    make_evaluation,
    make_run,
    make_user,
)
from tests.web.test_runs import text_of
from tests.web.worked import browser_of

pytestmark = pytest.mark.django_db
NONE = {"monthly_budget": None, "run_budget": None, "run_max_calls": None}
JUDGE = NewCriterion(
    "score_model",
    "kind",
    {
        "model": "judge",
        "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
        "range": [0, 1],
    },
)


@pytest.fixture
def actor():
    found = make_actor()
    make_endpoint(found, "http://127.0.0.1:9/v1", models=["m", "judge"])
    return found


def price(actor, name, prompt, completion):
    model = ServedModel.objects.select_related("account").get(account=actor.account, name=name)
    set_prices(actor, model, prompt=Decimal(prompt), completion=Decimal(completion))


def ended(run, tally=None, errored=0):
    """The run as if it had completed with such a tally."""
    passed = 6 - errored
    Run.objects.filter(pk=run.pk).update(
        state=Run.State.COMPLETED,
        row_count=6,
        total_count=6,
        passed_count=passed,
        errored_count=errored,
        tally=(tally or Tally()).dump(),
    )
    run.refresh_from_db()
    return run


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("monthly_budget", Decimal("-0.01")),
        ("monthly_budget", Decimal("NaN")),
        ("monthly_budget", Decimal("Infinity")),
        ("run_budget", Decimal("0.0000001")),
        ("run_budget", Decimal(10**9 + 1)),
        ("run_max_calls", -1),
        ("run_max_calls", 10**12 + 1),
    ],
)
def test_a_limit_that_is_no_amount_is_refused(actor, name, value) -> None:
    with pytest.raises(Invalid) as refused:
        set_limits(actor, actor.account, **{**NONE, name: value})
    assert dotted(refused.value.problems[0].path) == name
    assert not SpendingLimits.objects.exists()


def test_limits_are_set_by_who_manages_and_each_change_is_recorded(actor) -> None:
    for role in (Role.EDITOR, Role.ANNOTATOR, Role.VIEWER):
        with pytest.raises(PermissionDenied):
            set_limits(make_actor(role, account=actor.account), actor.account, **NONE)
    with pytest.raises(PermissionDenied):
        set_limits(make_actor(), actor.account, **NONE)
    for _ in range(2):
        set_limits(actor, actor.account, **{**NONE, "run_max_calls": 7})
    assert AuditEvent.objects.filter(action="limits.set").count() == 1
    with pytest.raises(PermissionDenied):
        this_month(make_actor(), actor.account)


@pytest.mark.parametrize("limits", [{"max_calls": -1}, {"budget": Decimal(-1)}])
def test_a_run_with_a_senseless_limit_is_refused(actor, limits) -> None:
    with pytest.raises(Invalid):
        make_run(actor, **limits)
    assert not Run.objects.exists()


def test_a_budget_is_refused_where_a_price_is_not_known(actor) -> None:
    with pytest.raises(Unfit, match="'m' costs"):
        make_run(actor, target=ask("m"), budget=Decimal(1))
    price(actor, "m", "1", "1")
    assert make_run(actor, target=ask("m"), budget=Decimal(1)).budget == 1


def test_a_runs_own_limits_go_before_its_accounts(actor) -> None:
    set_limits(actor, actor.account, **{**NONE, "run_max_calls": 7})
    assert make_run(actor).max_calls == 7
    assert make_run(actor, max_calls=0).max_calls == 0
    assert make_run().max_calls is None
    assert successor_of(actor, make_run(actor, max_calls=3), "retry").max_calls == 3


def test_calls_are_taken_until_there_are_none_and_can_be_given_back(actor) -> None:
    run = make_run(actor, max_calls=10)
    assert [take_calls(run.pk, 6, 10), take_calls(run.pk, 6, 10), take_calls(run.pk, 6, 10)] == [
        6,
        4,
        0,
    ]
    give_back_calls(run.pk, 3)
    assert take_calls(run.pk, 6, 10) == 3


# --- money ----------------------------------------------------------------------------------------


@given(
    st.decimals(0, 999_999, places=6),
    st.decimals(0, 999_999, places=6),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
)
def test_a_cost_is_exact(prompt, completion, asked, said) -> None:
    prices = Prices.of({"prices": {"prompt": f"{prompt:f}", "completion": f"{completion:f}"}})
    cost = prices.cost([1, asked, said])
    assert cost is not None
    # Exact in integers: what a decimal of 28 digits would round.
    assert cost == int(prompt * 10**6) * asked + int(completion * 10**6) * said


def test_a_price_that_is_missing_is_missed_only_where_it_is_taken() -> None:
    embedder = Prices.of({"prices": {"prompt": "1.000000", "completion": None}})
    assert embedder.cost([1, 5, 0]) == 5 * 10**6
    assert embedder.cost([1, 5, 1]) is None
    assert Prices.of({}).cost([1, 0, 0]) is None
    assert Prices.of({"builtin": "echo"}).cost([1, 5, 5]) == 0


def test_old_tallies_without_judges_are_answers() -> None:
    tally = Tally.load('{"criteria":{},"models":{"m":[1,2,3,5,0]}}')
    assert (tally.answering(), tally.judging) == ({"m": [1, 2, 3, 5, 0]}, {})


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("0", "0.00"), ("1.5", "1.50"), ("0.000012", "0.000012"), ("1234", "1,234.00")],
)
def test_money_is_shown_with_the_digits_that_say_something(amount, shown) -> None:
    assert shown_money(Decimal(amount)) == shown
    assert money_of(picos_of(Decimal(amount))) == Decimal(amount)


def test_a_month_is_summed_over_few_rows_however_many_workers_added(actor) -> None:
    for _ in range(60):
        add_to_month(actor.account.pk, 1_999_999_999_999, stripe=new_id())
    assert month_picos(actor.account.pk) == 60 * 1_999_999_999_999
    assert MonthSpending.objects.count() <= 16
    assert month_picos(make_actor().account.pk) == 0


def test_a_months_sum_takes_any_amount_without_failing(actor) -> None:
    for _ in range(30):
        add_to_month(actor.account.pk, 10**30, stripe=None)
    assert month_picos(actor.account.pk) >= 10**24


def test_an_export_tells_what_a_run_cost_or_that_it_is_not_known(actor) -> None:
    price(actor, "m", "1", "2")
    evaluation = make_evaluation(actor, criteria=[SAME, JUDGE])
    run = make_run(actor, evaluation=evaluation, target=ask("m"))
    tally = Tally()
    tally.use("m", [6, 1000, 500, 1500, 0])
    told = summary_table(ended(run, tally))["cost"]
    assert told == {
        "answers": "0.002000",
        "judges": "0.000000",
        "total": "0.002000",
        "unknown_prices": [],
    }
    tally.use("judge", [6, 10, 10, 20, 0], judging=True)
    told = summary_table(ended(run, tally))["cost"]
    assert (told["judges"], told["total"], told["unknown_prices"]) == (None, None, ["judge"])


def test_prices_are_those_of_the_start(actor) -> None:
    price(actor, "m", "1.5", "2")
    run = make_run(actor, target=ask("m"))
    price(actor, "m", "3", "4")
    kept = PriceList.of(run.read_target()).answers["m"]
    assert (kept.prompt, kept.completion) == (1_500_000, 2_000_000)
    again = PriceList.of(successor_of(actor, run, "retry").read_target()).answers["m"]
    assert again.prompt == 3_000_000


# --- estimates ------------------------------------------------------------------------------------


def estimated(actor, run):
    [one] = estimate_retry(actor, run).models
    return one


def plan_by_hand(run):
    run.shards.create(account=run.account, number=0, first_row=0, row_count=6, start=0, stop=10**6)


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


# --- faces ----------------------------------------------------------------------------------------


def test_a_runs_page_tells_its_cost_and_what_a_retry_may_cost(actor) -> None:
    price(actor, "m", "1000", "1000")
    run = make_run(actor, target=ask("m"), max_calls=1000)
    tally = Tally()
    tally.use("m", [6, 60, 30, 90, 0])
    tally.use("judge", [6, 6, 6, 12, 0], judging=True)
    ended(run, tally, errored=2)
    plan_by_hand(run)
    Result.objects.create(
        account=run.account, run=run, row_index=0, state="errored", error_code="budget"
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
    Result.objects.create(account=run.account, run=run, row_index=0, state="passed")
    page = text_of(browser_of(actor).get(reverse("web:regrade_run", args=[run.pk])))
    assert "About 6 calls for 6 results; judge judges" in page
    assert "Cost: unknown, for a price is missing" in page


def test_limits_are_set_in_the_admin_by_who_manages(client, actor) -> None:
    staff = make_actor(Role.ADMIN, account=actor.account, user=make_user(is_staff=True))
    client.force_login(staff.user)
    form = {"account": str(actor.account.pk), "monthly_budget": "12.5", "run_max_calls": "9"}
    client.post(reverse("admin:evaluations_spendinglimits_add"), form)
    limits = SpendingLimits.objects.get()
    assert (limits.monthly_budget, limits.run_max_calls) == (Decimal("12.5"), 9)
    add_to_month(actor.account.pk, picos_of(Decimal("1.25")), stripe=None)
    url = reverse("admin:evaluations_spendinglimits_change", args=[limits.pk])
    assert "1.25" in client.get(url).content.decode()
    refused = client.post(url, {"monthly_budget": "-1"}, follow=True)
    assert "A limit is 0 to" in refused.content.decode()
    editor = make_actor(Role.EDITOR, account=actor.account, user=make_user(is_staff=True))
    client.force_login(editor.user)
    client.post(url, {"monthly_budget": "99"})
    limits.refresh_from_db()
    assert limits.monthly_budget == Decimal("12.5")
    stranger = make_actor(Role.OWNER, user=make_user(is_staff=True))
    client.force_login(stranger.user)
    assert client.get(url).status_code == 302
