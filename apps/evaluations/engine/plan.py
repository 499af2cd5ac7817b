"""Cut a queued run's source into shards, checking every row on the way."""

import time
from collections.abc import Iterable, Iterator
from uuid import uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from apps.evaluations.engine.close import finish_run
from apps.evaluations.engine.copy import copy_results, copy_shards
from apps.evaluations.engine.source import row_spans
from apps.evaluations.engine.stopping import is_called_off
from apps.evaluations.models import MOST_ROWS, Run, Shard
from apps.evaluations.models.runs import RunQuerySet
from apps.evaluations.signals import run_planned
from apps.evaluations.targets import target_of_run
from apps.grading.item_schemas import compile_schema
from apps.leases import database_now, lease_end

# A shard that asks models is small, so that other runs get their turn; one that only grades is
# large, so that its writes are few. Bytes bound both: a shard's rows are in memory together.
ASKING_ROWS = 100
GRADING_ROWS = 1_000
SHARD_BYTES = 4 * 1024 * 1024
SHARDS_AT_ONCE = 500


class PlanLost(Exception):
    """Another planner holds the run, or it was canceled."""


class _CalledOff(Exception):
    """This process is to stop."""


class _RowFault(Exception):
    """A row that the run cannot use."""


def claim_plan(run: Run | None = None) -> Run | None:
    """Take this run to plan, or the oldest that nobody plans.

    None when there is none, and when another was quicker or was only late to renew.
    """
    now = database_now()
    run = run or Run.objects.plannable(now).first()
    if run is None:
        return None
    token = uuid4()
    # Conditional on the token that was read: of two planners who see the run free, one wins, and
    # a planner whose lease ran out finds its own token replaced.
    taken = (
        Run.objects.plannable(now)
        .filter(pk=run.pk, plan_token=run.plan_token)
        .update(plan_token=token, plan_until=lease_end(now), plan_attempts=run.plan_attempts + 1)
    )
    run.plan_token, run.plan_attempts = token, run.plan_attempts + 1
    return run if taken else None


def plan_run(run: Run) -> None:
    """Plan a claimed run: shards unseen by workers until the last statement makes it running.

    The first row that cannot be used fails the run with its line and reason. A planner that died
    left shards behind; they are removed first. When planners died of it `ENGINE_ATTEMPTS` times,
    and as often again with nothing else beside, the source must be what kills. Whatever is
    written, is written in a transaction with `renew`, so that a planner whose lease has passed to
    another touches nothing.
    """
    try:
        _plan(run)
    except PlanLost:
        return
    except _CalledOff:
        _give_back(run)


def _plan(run: Run) -> None:
    # As many died with others beside, whom they may have died of, and as many alone.
    if run.plan_attempts > 2 * settings.ENGINE_ATTEMPTS:
        _end(run, Run.State.FAILED, "source_unusable", "Every worker that read the rows died.")
        return
    _remove_shards(run)
    try:
        if run.retry_of is not None and run.retry_of.started_at is not None:
            row_count = copy_results(run, run.retry_of, lambda: renew(run))
        elif run.answers_of is not None:
            row_count = _make_shards(run, copy_shards(run, run.answers_of))
        else:
            row_count = _make_shards(run, _cut(run))
    except _RowFault as fault:
        _end(run, Run.State.FAILED, "invalid_row", str(fault))
    else:
        _show(run, row_count)


def _remove_shards(run: Run) -> None:
    while pks := list(Shard.objects.filter(run=run).values_list("pk", flat=True)[:SHARDS_AT_ONCE]):
        with transaction.atomic():
            renew(run)
            Shard.objects.filter(pk__in=pks).delete()


def _make_shards(run: Run, shards: Iterable[Shard]) -> int:
    row_count = 0
    held: list[Shard] = []
    for shard in shards:
        held.append(shard)
        row_count += shard.row_count
        if len(held) >= SHARDS_AT_ONCE:
            _keep(run, held)
            held.clear()
    _keep(run, held)
    return row_count


def _keep(run: Run, shards: Iterable[Shard]) -> None:
    with transaction.atomic():
        renew(run)
        Shard.objects.bulk_create(shards)


def _cut(run: Run) -> Iterator[Shard]:
    waits = target_of_run(run).waits or "judges" in run.read_target()
    limit = ASKING_ROWS if waits else GRADING_ROWS
    schema = compile_schema(run.evaluation.item_schema)
    open_shard: Shard | None = None
    size = 0
    looked_at = time.monotonic()
    number = 0
    for index, span in enumerate(row_spans(run, schema)):
        if span.fault:
            raise _RowFault(span.fault)
        if open_shard is not None and (
            open_shard.row_count >= limit or size + span.size > SHARD_BYTES
        ):
            yield open_shard
            open_shard = None
        if open_shard is None:
            open_shard = Shard(
                account_id=run.account_id,
                run=run,
                number=number,
                first_row=index,
                row_count=0,
                start=span.start,
                stop=span.stop,
            )
            number += 1
            size = 0
        open_shard.row_count += 1
        open_shard.stop = span.stop
        size += span.size
        # Between two writes may lie a long walk over rows: the lease must not run out on it, and
        # a cancellation is to be noticed.
        if time.monotonic() - looked_at > settings.ENGINE_LOOK_SECONDS:
            renew(run)
            looked_at = time.monotonic()
    if open_shard is not None:
        yield open_shard


def renew(run: Run) -> None:
    """Prolong the plan's lease. Raises PlanLost when the plan is no longer ours.

    First in a transaction it is the fence: it locks the run's row until the commit, so that no
    other planner can take the run while this one writes.
    """
    if is_called_off():
        raise _CalledOff
    if not _ours(run).update(plan_until=lease_end(database_now())):
        raise PlanLost


def _ours(run: Run) -> RunQuerySet:
    return Run.objects.filter(pk=run.pk, plan_token=run.plan_token, state=Run.State.QUEUED)


def _give_back(run: Run) -> None:
    """Leave the run to be planned anew: this was no death, so it counts as no attempt."""
    _ours(run).update(plan_token=None, plan_until=None, plan_attempts=F("plan_attempts") - 1)


def _end(run: Run, state: str, error_code: str = "", error_message: str = "") -> None:
    with transaction.atomic():
        renew(run)
        finish_run(run.pk, state, error_code, error_message)


def _show(run: Run, row_count: int) -> None:
    """Make the shards work for everybody, by one statement."""
    if row_count == 0:
        if run.on_empty == Run.OnEmpty.FAIL:
            _end(run, Run.State.FAILED, "empty_source", "The source has no rows.")
        else:
            _end(run, Run.State.COMPLETED)
        return
    if row_count > MOST_ROWS:
        message = f"The source has {row_count:,} rows; a run takes at most {MOST_ROWS:,}."
        _end(run, Run.State.FAILED, "source_too_large", message)
        return
    now = timezone.now()
    shown = _ours(run).update(
        state=Run.State.RUNNING,
        row_count=row_count,
        total_count=row_count * run.repeats,
        started_at=now,
        updated_at=now,
        plan_token=None,
        plan_until=None,
    )
    if not shown:
        raise PlanLost
    # Outside of any transaction: who hears of it looks at the tables.
    run_planned.send(sender=Run, shard_count=Shard.objects.unfinished().filter(run=run).count())
