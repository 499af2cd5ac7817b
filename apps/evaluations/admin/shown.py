"""Show money and rates on the admin's pages of evaluations."""

from decimal import Decimal

from apps.accounts.admin_display import NOTHING
from apps.evaluations.costs import Cost, shown_money
from apps.grading.statistics import Rate


def rate_text(rate: Rate) -> str:
    if rate.value is None:
        return NOTHING
    return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%}) of {rate.total:,}"


def money_text(amount: Decimal | None) -> str:
    """Show an amount with two digits after the point, or more where they say something."""
    return "unknown" if amount is None else shown_money(amount)


def cost_text(cost: Cost) -> str:
    if cost.is_wholly_unknown:
        return "unknown"
    missing = f" and what {', '.join(sorted(cost.unknown))} cost" if cost.unknown else ""
    return f"{shown_money(cost.amount)}{missing}"
