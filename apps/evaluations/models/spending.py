"""Limits of what may be spent on models, and sums of what was: by account, month and run."""

from django.db import models

from apps.accounts.models import OwnedModel, OwnedQuerySet
from apps.evaluations.models.runs import Run


class SpendingLimits(OwnedModel):
    """The limits of what an account's runs may spend; an empty one is none."""

    monthly_budget = models.DecimalField(
        max_digits=15,
        decimal_places=6,
        null=True,
        blank=True,
        help_text="For all runs in a calendar month, in UTC; in the currency of the prices.",
    )
    run_budget = models.DecimalField(
        max_digits=15,
        decimal_places=6,
        null=True,
        blank=True,
        help_text="For each new run that brings no budget of its own.",
    )
    run_max_calls = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        help_text="Calls of models, retries included, for each new run that brings no limit.",
    )

    objects = OwnedQuerySet.as_manager()

    class Meta:
        verbose_name = verbose_name_plural = "spending limits"
        ordering = ("account",)
        constraints = [
            models.UniqueConstraint(fields=("account",), name="one_set_of_limits_per_account")
        ]

    def __str__(self) -> str:
        return f"limits of {self.account}"


class MonthSpending(models.Model):
    """A part of what an account's runs spent in a month; it stays when they are deleted.

    Each worker adds to the part of its own stripe, so that few wait for each other. An amount is
    micros × 10^-6 + picos × 10^-12 of the currency.
    """

    id = models.BigAutoField(primary_key=True)
    account = models.ForeignKey("accounts.Account", models.CASCADE, related_name="+")
    month = models.DateField(help_text="Its first day.")
    stripe = models.PositiveSmallIntegerField()
    micros = models.PositiveBigIntegerField()
    picos = models.PositiveBigIntegerField()

    class Meta:
        ordering = ("account", "month", "stripe")
        constraints = [
            models.UniqueConstraint(fields=("account", "month", "stripe"), name="one_month_stripe")
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"


class CallQuota(models.Model):
    """The calls of a run's `max_calls` that workers have taken; never given out twice."""

    run = models.OneToOneField(Run, models.CASCADE, primary_key=True, related_name="quota")
    taken = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ("run",)

    def __str__(self) -> str:
        return f"{self.taken} calls"
