"""Limits as services and pages take them, costs as they are told, and estimates."""

from decimal import Decimal

import pytest
from django.core.exceptions import PermissionDenied

from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.errors import Invalid, Unfit, dotted
from apps.evaluations.costs import PriceList
from apps.evaluations.engine.spending import add_to_month, give_back_calls, month_picos, take_calls
from apps.evaluations.exports import summary_table
from apps.evaluations.models import MonthSpending, Run, SpendingLimits
from apps.evaluations.services.runs import successor_of
from apps.evaluations.services.spending import set_limits, this_month
from apps.evaluations.tally import Tally
from apps.ids import new_id
from tests.evaluations.priced_runs import JUDGE, ended, price
from tests.factories import (
    SAME,
    ask,
    make_actor,
    make_endpoint,
    make_evaluation,
    make_run,
)

pytestmark = pytest.mark.django_db
NONE = {"monthly_budget": None, "run_budget": None, "run_max_calls": None}


@pytest.fixture
def actor():
    found = make_actor()
    make_endpoint(found, "http://127.0.0.1:9/v1", models=["m", "judge"])
    return found


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
