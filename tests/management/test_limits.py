"""set_limits: what an account may spend, from the command line."""

from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from apps.evaluations.costs import picos_of
from apps.evaluations.engine.spending import add_to_month
from apps.evaluations.models import SpendingLimits
from tests.factories import make_actor

pytestmark = pytest.mark.django_db


def set_limits(*arguments: str) -> str:
    out = StringIO()
    call_command("set_limits", *arguments, stdout=out)
    return out.getvalue()


def test_limits_that_are_not_given_stay_and_none_lifts_one() -> None:
    account = make_actor().account
    add_to_month(account.pk, picos_of(Decimal("1.25")), stripe=None)
    told = set_limits("--account", account.name, "--monthly-budget", "20", "--run-max-calls", "9")
    assert f"{account.name} has spent 1.25 of 20.00 in" in told
    set_limits("--account", account.name, "--run-max-calls", "none", "--run-budget", "0.5")
    limits = SpendingLimits.objects.get(account=account)
    assert (limits.monthly_budget, limits.run_budget) == (Decimal(20), Decimal("0.5"))
    assert limits.run_max_calls is None


@pytest.mark.parametrize("amount", ["-1", "much", "NaN", "1e99", "0.0000001"])
def test_what_is_no_amount_is_refused(amount) -> None:
    account = make_actor().account
    with pytest.raises(CommandError):
        set_limits("--account", account.name, f"--monthly-budget={amount}")
    assert not SpendingLimits.objects.exists()
