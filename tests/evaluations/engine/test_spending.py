"""Runs under limits, by workers in this process, against a real model server that counts."""

import time
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from apps.accounts.roles import Role
from apps.evaluations import reports
from apps.evaluations.engine import plan as plan_module
from apps.evaluations.engine import spending as spending_module
from apps.evaluations.engine.spending import BudgetKeeper, BudgetRequest, month_picos
from apps.evaluations.models import CallQuota, Result, Run, Shard
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.services.regrades import regrade_run
from apps.evaluations.services.runs import delete_run, retry_errored
from apps.evaluations.services.spending import set_limits, this_month
from apps.ids import new_id
from apps.inference.endpoints import set_prices
from apps.inference.models import ServedModel
from apps.leases import database_now, lease_end
from tests.evaluations.engine.shards import plan
from tests.evaluations.engine.workers import InBackground, work_until_idle
from tests.factories import SAME, ask, make_actor, make_endpoint, make_evaluation, make_run
from tests.judgements import judgements
from tests.patience import patience, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

SLOTS = 4
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


@pytest.fixture
def account(actor):
    return actor.account


@pytest.fixture(autouse=True)
def endpoint(actor, server, monkeypatch):
    monkeypatch.setattr(plan_module, "ASKING_ROWS", 5)
    models = ["m", "slow:0.05", "flaky:2:fail-503"]
    aliases = {"judge": 'answer:{"steps": [], "result": 0.9}'}
    return make_endpoint(actor, server.base_url, models=models, aliases=aliases, concurrency=SLOTS)


def price(actor, name="m", prompt="1000", completion="2000"):
    """A thousandth of the currency for each token asked, two for each that is answered."""
    model = ServedModel.objects.select_related("account").get(account=actor.account, name=name)
    set_prices(
        actor,
        model,
        prompt=None if prompt is None else Decimal(prompt),
        completion=None if completion is None else Decimal(completion),
    )


def limit(actor, **limits):
    given = {"monthly_budget": None, "run_budget": None, "run_max_calls": None, **limits}
    return set_limits(actor, actor.account, **given)


def work_until_over():
    """On a busy machine a worker may find nothing to do before a run is planned, and leave."""
    ends_at = time.monotonic() + patience(60)
    while Run.objects.unfinished().exists():
        assert time.monotonic() < ends_at
        work_until_idle()


def cost_of(run):
    run.refresh_from_db()
    return reports.summary(run).spending


def reasons(run):
    errored = Result.objects.of_run(run).filter(state=Result.State.ERRORED)
    return set(errored.values_list("error_code", flat=True))


def test_a_run_costs_its_tokens_times_the_prices(actor, account):
    price(actor, prompt="0.000001", completion="2000")
    run = make_run(actor, source=3, target=ask("m"))
    work_until_over()
    # Of each row two words are asked, and two come back.
    assert cost_of(run).total.picos == 3 * (2 * 1 + 2 * 2_000 * 10**6)
    assert f"{cost_of(run).total.amount}" == "0.012000"
    assert month_picos(account.pk) == cost_of(run).total.picos


def test_a_later_price_rewrites_no_past_run_but_holds_for_its_retry(actor):
    price(actor)
    run = make_run(actor, source=4, target=ask("m"), max_calls=2)
    work_until_over()
    price(actor, prompt="2000", completion="4000")
    run.refresh_from_db()
    again = retry_errored(actor, run)
    work_until_over()
    assert cost_of(run).total.amount == Decimal("0.012")
    assert cost_of(again).total.amount == Decimal("0.024")


def test_the_cost_of_a_model_without_a_price_is_unknown_and_not_nothing(actor, account):
    run = make_run(actor, source=2, target=ask("m"))
    work_until_over()
    cost = cost_of(run).total
    assert cost.unknown == {"m"}
    assert not cost.is_known
    assert cost.is_wholly_unknown
    assert month_picos(account.pk) == 0


def test_judges_are_counted_apart_though_the_same_model_answers(actor):
    price(actor, "judge")
    evaluation = make_evaluation(actor, criteria=[SAME, JUDGED])
    run = make_run(actor, evaluation=evaluation, source=2, target=ask("judge"))
    work_until_over()
    spending = cost_of(run)
    answers, judges = spending.models
    assert (answers.is_judging, judges.is_judging) == (False, True)
    assert answers.usage.calls == 2
    (both,) = reports.summary(run).usage
    assert both.calls == answers.usage.calls + judges.usage.calls
    assert spending.answers.amount == answers.amount
    assert spending.judges.picos > 0
    assert spending.total.picos == spending.answers.picos + spending.judges.picos


def test_what_was_spent_stays_spent_when_the_run_is_deleted(actor, account):
    price(actor)
    run = make_run(actor, source=2, target=ask("m"))
    work_until_over()
    spent = month_picos(account.pk)
    delete_run(actor, run)
    run.delete()
    assert month_picos(account.pk) == spent > 0


def test_a_run_makes_no_more_calls_than_it_may_and_completes(actor, server):
    run = make_run(actor, source=40, target=ask("m"), max_calls=13)
    work_until_over()
    run.refresh_from_db()
    assert (run.state, run.passed_count, run.errored_count) == (Run.State.COMPLETED, 13, 27)
    assert server.counts()["total"] == 13
    assert reasons(run) == {"budget"}
    message = Result.objects.of_run(run).filter(state="errored").first().error_message
    assert message == "The run may make 13 calls, and they are used up."


def test_a_limit_that_is_enough_keeps_nothing_back(actor, server):
    run = make_run(actor, source=40, target=ask("m"), max_calls=40)
    work_until_over()
    run.refresh_from_db()
    assert (run.state, run.passed_count) == (Run.State.COMPLETED, 40)
    assert run.quota.taken == server.counts()["total"] == 40


def test_two_workers_share_one_limit(actor, server):
    run = make_run(actor, source=60, target=ask("slow:0.05"), max_calls=31)
    with InBackground(), InBackground():
        pass
    work_until_over()
    run.refresh_from_db()
    assert (run.state, run.passed_count, run.errored_count) == (Run.State.COMPLETED, 31, 29)
    assert server.counts()["total"] == 31


def test_retries_are_calls(actor, server):
    run = make_run(actor, source=20, target=ask("flaky:2:fail-503"), max_calls=9)
    work_until_over()
    run.refresh_from_db()
    assert run.state == Run.State.COMPLETED
    assert server.counts()["total"] <= 9
    assert run.passed_count + run.errored_count == 20
    assert cost_of(run).models[0].usage.calls == server.counts()["total"]


def test_an_item_begins_only_with_the_calls_of_its_judges(actor, server):
    evaluation = make_evaluation(actor, criteria=[SAME, JUDGED])
    run = make_run(actor, evaluation=evaluation, source=20, target=ask("m"), max_calls=8)
    work_until_over()
    assert server.counts()["total"] <= 8
    assert cost_of(run).models[0].usage.calls == 4
    assert Result.objects.of_run(run).filter(sample__isnull=False).count() == 4


def test_judges_stop_too_and_the_answers_stay(actor, server):
    price(actor, "judge")
    evaluation = make_evaluation(actor, criteria=[JUDGED])
    run = make_run(actor, evaluation=evaluation, source=9, max_calls=0)
    work_until_over()
    run.refresh_from_db()
    assert (run.state, run.errored_count) == (Run.State.COMPLETED, 9)
    assert {one.error_code for one in judgements()} == {"budget"}
    assert server.counts()["total"] == 0


def test_a_retry_goes_on_where_the_limit_ended(actor, server):
    run = make_run(actor, source=10, target=ask("m"), max_calls=6)
    work_until_over()
    run.refresh_from_db()
    again = retry_errored(actor, run)
    work_until_over()
    again.refresh_from_db()
    assert (again.passed_count, again.errored_count, again.max_calls) == (10, 0, 6)
    assert server.counts()["total"] == 10


def test_calls_that_a_dead_worker_had_taken_are_not_made_again(actor, server):
    run = make_run(actor, source=10, target=ask("m"), max_calls=10)
    CallQuota.objects.create(run=run, taken=4)
    work_until_over()
    run.refresh_from_db()
    assert (run.state, run.passed_count, run.errored_count) == (Run.State.COMPLETED, 6, 4)
    assert server.counts()["total"] == 6


def test_a_run_stops_at_its_budget_but_for_what_is_in_flight(actor, server):
    price(actor)
    # A row costs 0.006.
    run = make_run(actor, source=60, target=ask("m"), budget=Decimal("0.06"))
    work_until_over()
    run.refresh_from_db()
    assert run.state == Run.State.COMPLETED
    assert 10 <= run.passed_count <= 10 + SLOTS
    assert run.passed_count + run.errored_count == 60
    assert cost_of(run).total.amount == Decimal("0.006") * run.passed_count
    assert server.counts()["total"] == run.passed_count
    assert reasons(run) == {"budget"}
    message = Result.objects.of_run(run).filter(state="errored").first().error_message
    assert message == "The run's budget of 0.06 is spent."


def test_two_workers_share_one_budget(actor, server):
    price(actor, "slow:0.05")
    run = make_run(actor, source=60, target=ask("slow:0.05"), budget=Decimal("0.12"))
    with InBackground(), InBackground():
        pass
    work_until_over()
    run.refresh_from_db()
    assert run.state == Run.State.COMPLETED
    assert 20 <= run.passed_count <= 20 + 2 * SLOTS
    assert run.passed_count + run.errored_count == 60


def test_the_months_budget_stops_every_run_of_the_account_and_no_other(actor, account, server):
    price(actor)
    limit(actor, monthly_budget=Decimal("0.03"))
    other = make_actor()
    make_endpoint(other, server.base_url, models=["m"])
    price(other)
    first = make_run(actor, source=20, target=ask("m"))
    work_until_over()
    second = make_run(actor, source=20, target=ask("m"))
    theirs = make_run(other, source=20, target=ask("m"))
    work_until_over()
    for run in (first, second, theirs):
        run.refresh_from_db()
        assert run.state == Run.State.COMPLETED
    assert 5 <= first.passed_count <= 5 + SLOTS
    assert (second.passed_count, second.errored_count) == (0, 20)
    assert theirs.passed_count == 20
    assert this_month(actor, account).spent == cost_of(first).total.amount
    assert "The account's budget of 0.03 for" in Result.objects.of_run(second).first().error_message


def test_a_new_month_begins_with_its_budget_whole(actor, account, monkeypatch):
    price(actor)
    limit(actor, monthly_budget=Decimal("0.024"))
    july = datetime(2031, 7, 31, 23, 59, tzinfo=UTC)
    monkeypatch.setattr(spending_module.timezone, "now", lambda: july)
    make_run(actor, source=20, target=ask("m"))
    work_until_over()
    spent = month_picos(account.pk)
    august = datetime(2031, 8, 1, tzinfo=UTC)
    monkeypatch.setattr(spending_module.timezone, "now", lambda: august)
    assert month_picos(account.pk) == 0
    run = make_run(actor, source=3, target=ask("m"))
    work_until_over()
    run.refresh_from_db()
    assert run.passed_count == 3
    assert month_picos(account.pk, date(2031, 7, 1)) == spent > 0


def test_a_budget_set_while_a_run_goes_holds_for_it(actor, server):
    price(actor, "slow:0.05")
    run = make_run(actor, source=200, target=ask("slow:0.05"))
    with InBackground():
        wait_until(Result.objects.of_run(run).exists)
        limit(actor, monthly_budget=Decimal("0.006"))
    work_until_over()
    run.refresh_from_db()
    assert run.state == Run.State.COMPLETED
    assert reasons(run) == {"budget"}
    assert 0 < run.passed_count < 200


def test_grading_again_is_held_to_the_same_limits(actor, server):
    evaluation = make_evaluation(actor, criteria=[SAME])
    run = make_run(actor, evaluation=evaluation, source=8, target=ask("m"), max_calls=8)
    work_until_over()
    server.reset()
    run.refresh_from_db()
    again = regrade_run(actor, run, criteria=[JUDGED])
    Run.objects.filter(pk=again.pk).update(max_calls=3)
    work_until_over()
    again.refresh_from_db()
    assert again.state == Run.State.COMPLETED
    assert server.counts()["total"] <= 3
    assert Result.objects.of_run(again).filter(sample__isnull=False).count() == 8


def test_an_editors_run_has_the_accounts_limits_from_any_dialect(actor, account):
    limit(actor, run_max_calls=5, run_budget=Decimal("1.5"))
    editor = make_actor(Role.EDITOR, account=account)
    run = make_run(editor, source=2, target=ask("m"), dialect="openai")
    run.refresh_from_db()
    assert (run.max_calls, run.budget) == (5, Decimal("1.5"))


def test_workers_divide_what_is_left_of_a_budget(actor, monkeypatch):
    """None sees what the others have spent and not stored yet."""
    monkeypatch.setattr(plan_module, "ASKING_ROWS", 1)
    price(actor)
    run = plan(make_run(actor, source=3, target=ask("m"), budget=Decimal("3")))
    asked = {1: BudgetRequest(run, has_prices=True, wanted=0, surplus=0, unstored=7)}
    parts = []
    for shard in run.shards.all():
        # Another worker is at work.
        Shard.objects.filter(pk=shard.pk).update(
            worker=new_id(), lease_until=lease_end(database_now())
        )
        parts.append(BudgetKeeper().answer(asked)[1].remaining_picos)
    whole = 3 * 10**12
    assert parts == [whole - 7, whole // 2 - 7, whole // 3 - 7]
