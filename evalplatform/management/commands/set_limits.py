"""Set what an account's runs may spend on models."""

from argparse import ArgumentParser
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import CommandError

from apps.accounts.services.actors import actor_of
from apps.evaluations.reports import shown_money
from apps.evaluations.services.spending import limits_of, set_limits, this_month
from evalplatform.dialects.kit.commands import CoreCommand

NONE = "none"


class Command(CoreCommand):
    help = (
        "Set what an account's runs may spend on models, in the currency of the models' prices, "
        "and tell what they have spent this month. What is not given stays as it is; none lifts a "
        "limit."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--account", required=True, metavar="NAME")
        parser.add_argument(
            "--monthly-budget", metavar="AMOUNT", help="for all runs in a calendar month, in UTC"
        )
        parser.add_argument(
            "--run-budget", metavar="AMOUNT", help="for each new run that brings none"
        )
        parser.add_argument(
            "--run-max-calls",
            metavar="N",
            help="calls of models, retries included, for each new run that brings no limit",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        actor = actor_of(options["account"])
        account = actor.account
        assert account is not None
        limits = limits_of(account)
        for name in ("monthly_budget", "run_budget", "run_max_calls"):
            if (text := options[name]) is not None:
                limits[name] = _read(name, text)
        set_limits(actor, account, **limits)
        month = this_month(actor, account)
        of = "" if month.budget is None else f" of {shown_money(month.budget)}"
        self.stdout.write(
            f"{account.name} has spent {shown_money(month.spent)}{of} in {month.first:%B %Y}."
        )


def _read(name: str, text: str) -> Decimal | int | None:
    if text == NONE:
        return None
    try:
        return int(text) if name == "run_max_calls" else Decimal(text)
    except (ValueError, InvalidOperation):
        option = name.replace("_", "-")
        raise CommandError(f"--{option} takes a number or {NONE}, not {text!r}.") from None
