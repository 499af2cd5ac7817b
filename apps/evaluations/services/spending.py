"""Set what an account's runs may spend, and read what they have spent."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Account, Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.errors import Invalid, Unfit
from apps.evaluations.costs import PriceList, money_of
from apps.evaluations.engine.spending import month_of, month_picos
from apps.evaluations.models import SpendingLimits

BUDGET_LIMIT = 10**9
CALLS_LIMIT = 10**12


@dataclass(frozen=True)
class Month:
    """The spending of an account's runs in a month, and their budget, None for no limit."""

    first: date
    spent: Decimal
    budget: Decimal | None


def set_limits(
    actor: Actor,
    account: Account,
    *,
    monthly_budget: Decimal | None,
    run_budget: Decimal | None,
    run_max_calls: int | None,
) -> SpendingLimits:
    """Set how much runs of the account may spend from now on; None is no limit.

    The monthly budget holds for runs that are going, too; the others for new runs that bring no
    limit of their own. Raises Invalid.
    """
    actor.require(Action.MANAGE, account)
    check_limit("monthly_budget", monthly_budget, BUDGET_LIMIT)
    check_limit("run_budget", run_budget, BUDGET_LIMIT)
    check_limit("run_max_calls", run_max_calls, CALLS_LIMIT)
    given = {
        "monthly_budget": monthly_budget,
        "run_budget": run_budget,
        "run_max_calls": run_max_calls,
    }
    with transaction.atomic():
        limits, _ = SpendingLimits.objects.select_for_update().get_or_create(account=account)
        before = {name: getattr(limits, name) for name in given}
        for name, value in given.items():
            setattr(limits, name, value)
        limits.save(update_fields=[*given])
        if before != given:
            record(actor, "limits.set", limits, before=before, after=given)
    return limits


def limits_of(account: Account) -> dict[str, Any]:
    """Return the account's limits as `set_limits` takes them."""
    limits = SpendingLimits.objects.filter(account=account).first() or SpendingLimits()
    return {
        "monthly_budget": limits.monthly_budget,
        "run_budget": limits.run_budget,
        "run_max_calls": limits.run_max_calls,
    }


def check_limit(path: str, value: Decimal | int | None, limit: int) -> None:
    """Raise Invalid for less than 0, more than `limit`, and for more than six decimals."""
    if value is None:
        return
    if isinstance(value, Decimal):
        is_fit = value.is_finite() and 0 <= value <= limit and value == round(value, 6)
    else:
        is_fit = 0 <= value <= limit
    if not is_fit:
        digits = " with six decimals at most" if isinstance(value, Decimal) else ""
        raise Invalid(f"A limit is 0 to {limit:,}{digits}, not {value}.", path=path)


def limits_of_run(
    account: Account,
    target: Mapping[str, Any],
    *,
    max_calls: int | None,
    budget: Decimal | None,
) -> dict[str, Any]:
    """Return the limits of a new run: its own, or else its account's.

    Raises Invalid, and Unfit for a run's own budget where a model's price is not known: what it
    spends could not be told. An account's budgets count what is known.
    """
    check_limit("max_calls", max_calls, CALLS_LIMIT)
    check_limit("budget", budget, BUDGET_LIMIT)
    if budget is not None and (unpriced := PriceList.of(target).unpriced):
        raise Unfit(
            f"A budget cannot be kept: nobody has said what {unpriced[0]!r} costs.", path="budget"
        )
    limits = limits_of(account)
    return {
        "max_calls": limits["run_max_calls"] if max_calls is None else max_calls,
        "budget": limits["run_budget"] if budget is None else budget,
    }


def this_month(actor: Actor, account: Account) -> Month:
    """Return what the account's runs have spent this month, and their budget."""
    actor.require(Action.READ, account)
    first = month_of(timezone.now())
    budgets = SpendingLimits.objects.filter(account=account)
    budget = budgets.values_list("monthly_budget", flat=True).first()
    return Month(first, spent_in(account, first), budget)


def spent_in(account: Account, month: date | None = None) -> Decimal:
    """Return what the account's runs spent in the month that begins then, or in this one."""
    return money_of(month_picos(account.pk, month))
