"""Sum up what has been spent, and give each worker its part of what may still be spent."""

import time
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Sum
from django.utils import timezone

from apps.evaluations.costs import MICRO, picos_of, shown_money
from apps.evaluations.models import CallQuota, MonthSpending, Run, Shard, SpendingLimits
from apps.leases import database_now, uuid_writer

STRIPES = 16
MICROS_MAX = 10**18  # of a month's stripe; what goes beyond is lost rather than no longer stored


def month_of(moment: datetime) -> date:
    """The first day of a moment's month, in UTC as all times here."""
    return moment.date().replace(day=1)


def add_to_month(account_id: UUID, picos: int, *, stripe: UUID | None) -> None:
    """Add to what the account has spent this month, in the transaction that stores what for."""
    table = MonthSpending._meta.db_table
    micros, rest = divmod(picos, MICRO)
    # One statement, which adds in the database: two workers of one stripe must not read the same
    # sum and write two. Stripes keep most of them from waiting for each other's commit.
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} AS kept (account_id, month, stripe, micros, picos)"  # noqa: S608  names of our own tables
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (account_id, month, stripe) DO UPDATE SET"
            " micros = CASE WHEN kept.micros > %s THEN kept.micros"
            " ELSE kept.micros + excluded.micros END, picos = kept.picos + excluded.picos",
            [
                uuid_writer()(account_id),
                connection.ops.adapt_datefield_value(month_of(timezone.now())),
                stripe.int % STRIPES if stripe else 0,
                min(micros, MICROS_MAX),
                rest,
                MICROS_MAX,
            ],
        )


def month_picos(account_id: UUID, month: date | None = None) -> int:
    """Sum up what the account's runs have spent in a month, this one unless another is given."""
    parts = MonthSpending.objects.filter(
        account=account_id, month=month or month_of(timezone.now())
    )
    return sum(
        micros * MICRO + picos for micros, picos in parts.values_list("micros", "picos").order_by()
    )


def has_limits(run: Run) -> bool:
    """Return whether the run has a limit now; its account may get one, or lose it, meanwhile."""
    limits = SpendingLimits.objects.filter(account=run.account_id, monthly_budget__isnull=False)
    return run.max_calls is not None or run.budget is not None or limits.exists()


def take_calls(run_id: UUID, wanted: int, limit: int) -> int:
    """Reserve calls of a run for a worker; how many there were, at most `wanted`.

    What is reserved is as good as made: a worker that dies takes its reserve along.
    """
    CallQuota.objects.get_or_create(run_id=run_id)
    with transaction.atomic():
        # Locked until the commit, so that two workers never take the same calls.
        quota = CallQuota.objects.select_for_update().get(run=run_id)
        given = max(0, min(wanted, limit - quota.taken))
        CallQuota.objects.filter(run=run_id).update(taken=F("taken") + given)
    return given


def give_back_calls(run_id: UUID, count: int) -> None:
    """Give back calls that were taken and not made."""
    if count:
        CallQuota.objects.filter(run=run_id).update(taken=F("taken") - count)


@dataclass(frozen=True)
class BudgetRequest:
    """A request of a worker's meter of a run to the coordinator.

    wanted: calls that it can use now. surplus: calls that it gives back. unstored: picos that its
    finished items cost and that may not be in the tables yet.
    """

    run: Run
    has_prices: bool
    wanted: int
    surplus: int
    unstored: int


@dataclass(frozen=True)
class Allowance:
    """The coordinator's answer to a BudgetRequest.

    calls: so many more. remaining_picos: what may be spent from when it was asked, None for any
    amount, or where that was not looked at. is_looked_at: were the sums read? no_calls, no_money:
    why there will be no more, empty while there may be. is_free: no limit.
    """

    calls: int = 0
    remaining_picos: int | None = None
    is_looked_at: bool = False
    no_calls: str = ""
    no_money: str = ""
    is_free: bool = False


class BudgetKeeper:
    """The coordinator's knowledge of limits; reads sums no more often than results are stored."""

    def __init__(self) -> None:
        self._budgets: dict[UUID, Decimal | None] = {}
        self._budgets_at = 0.0
        self._looked_at: dict[UUID, float] = {}

    def answer(self, requests: Mapping[int, BudgetRequest]) -> dict[int, Allowance]:
        if not requests:
            return {}
        self._read_budgets({request.run.account_id for request in requests.values()})
        going = {request.run.pk for request in requests.values()}
        self._looked_at = {pk: at for pk, at in self._looked_at.items() if pk in going}
        return {key: self._allow(request) for key, request in requests.items()}

    def _read_budgets(self, accounts: Set[UUID]) -> None:
        """Read the accounts' budgets, now and then: they may be set while runs go on."""
        now = time.monotonic()
        if accounts <= self._budgets.keys() and (
            now - self._budgets_at < settings.ENGINE_LOOK_SECONDS
        ):
            return
        set_ones = SpendingLimits.objects.filter(account__in=accounts)
        found = dict(set_ones.values_list("account_id", "monthly_budget"))
        self._budgets = {account: found.get(account) for account in accounts}
        self._budgets_at = now

    def _allow(self, request: BudgetRequest) -> Allowance:
        run = request.run
        monthly = self._budgets[run.account_id] if request.has_prices else None
        budget = run.budget if request.has_prices else None
        if run.max_calls is None and budget is None and monthly is None:
            return Allowance(is_free=True)
        calls, no_calls = 0, ""
        if run.max_calls is not None:
            give_back_calls(run.pk, request.surplus)
            if request.wanted:
                calls = take_calls(run.pk, request.wanted, run.max_calls)
                if calls < request.wanted:
                    no_calls = f"The run may make {run.max_calls:,} calls, and they are used up."
        if budget is None and monthly is None:
            return Allowance(calls, None, True, no_calls)
        now = time.monotonic()
        # Sums change no sooner than results are stored; until then the meter counts by itself.
        if now - self._looked_at.get(run.pk, -1e9) < settings.ENGINE_FLUSH_SECONDS:
            return Allowance(calls, no_calls=no_calls)
        self._looked_at[run.pk] = now
        left, reason = _money_left(run, budget, monthly)
        if left <= 0:
            return Allowance(calls, 0, True, no_calls, reason)
        # Of what is left each worker has its part: none sees what others have not stored yet.
        share = -(-left // _workers_of(run.account_id))
        return Allowance(calls, share - request.unstored, True, no_calls)


def _money_left(run: Run, budget: Decimal | None, monthly: Decimal | None) -> tuple[int, str]:
    """Return the picos that are left of the tighter limit, and what to say when there are none."""
    rests = []
    if budget is not None:
        spent = (
            Shard.objects.filter(run=run.pk)
            .order_by()
            .aggregate(micros=Sum("spent_micros", default=0))
        )
        reason = f"The run's budget of {shown_money(budget)} is spent."
        rests.append((picos_of(budget) - int(spent["micros"]) * MICRO, reason))
    if monthly is not None:
        now = timezone.now()
        reason = f"The account's budget of {shown_money(monthly)} for {now:%B %Y} is spent."
        rests.append((picos_of(monthly) - month_picos(run.account_id), reason))
    return min(rests)


def _workers_of(account_id: UUID) -> int:
    """Count the workers that hold shards of the account, 1 at least: the one that asks."""
    held = Shard.objects.unfinished().filter(
        account=account_id, lease_until__gte=database_now(), worker__isnull=False
    )
    return max(1, held.order_by().values("worker").distinct().count())
