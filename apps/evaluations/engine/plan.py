"""Cut a queued run's source into shards, checking every row on the way."""

from collections.abc import Iterator
from uuid import uuid4

from django.conf import settings
from django.utils import timezone

from apps.evaluations.engine.close import finish_run
from apps.evaluations.engine.copy import copy_results
from apps.evaluations.engine.leases import database_now, lease_end
from apps.evaluations.engine.source import Place, places
from apps.evaluations.item_schemas import compile_schema
from apps.evaluations.models import Run, Shard

# A shard that asks models is small, so that other runs get their turn; one that only grades is
# large, so that its writes are few. Bytes bound both: a shard's rows are in memory together.
ASKING_ROWS = 100
GRADING_ROWS = 1_000
SHARD_BYTES = 4 * 1024 * 1024
SHARDS_AT_ONCE = 500


class PlanLost(Exception):
    """Another planner holds the run, or it was canceled."""


def claim_plan() -> Run | None:
    """Take the oldest run that nobody is planning."""
    now = database_now()
    run = Run.objects.plannable(now).first()
    if run is None:
        return None
    token = uuid4()
    taken = Run.objects.filter(pk=run.pk, state=Run.State.QUEUED, plan_token=run.plan_token).update(
        plan_token=token, plan_until=lease_end(now), plan_attempts=run.plan_attempts + 1
    )
    if not taken:
        return None
    run.plan_token, run.plan_attempts = token, run.plan_attempts + 1
    return run


def plan_run(run: Run) -> None:
    """Plan a claimed run: shards unseen by workers until the last statement makes it running.

    The first row that cannot be used fails the run with its line and reason. A planner that died
    left shards behind; they are removed first. A planner that died `ENGINE_ATTEMPTS` times fails
    the run, since the source must be what kills it.
    """
    if run.plan_attempts > settings.ENGINE_ATTEMPTS:
        finish_run(
            run.pk,
            Run.State.FAILED,
            "source_unusable",
            "The rows could not be read: planning died.",
        )
        return
    try:
        _remove_shards(run)
        if run.retry_of is not None and run.retry_of.started_at is not None:
            row_count = copy_results(run, lambda: _renew(run))
        else:
            row_count = _make_shards(run)
        _show(run, row_count)
    except PlanLost:
        return
    except _RowFault as fault:
        finish_run(run.pk, Run.State.FAILED, "invalid_row", str(fault))


class _RowFault(Exception):
    """A row that the run cannot use."""


def _remove_shards(run: Run) -> None:
    while pks := list(Shard.objects.filter(run=run).values_list("pk", flat=True)[:SHARDS_AT_ONCE]):
        Shard.objects.filter(pk__in=pks).delete()


def _make_shards(run: Run) -> int:
    held: list[Shard] = []
    row_count = 0
    for shard in _cut(run):
        held.append(shard)
        row_count = shard.first_row + shard.row_count
        if len(held) >= SHARDS_AT_ONCE:
            Shard.objects.bulk_create(held)
            held.clear()
    Shard.objects.bulk_create(held)
    return row_count


def _cut(run: Run) -> Iterator[Shard]:
    target = run.read_target()
    asks = target["kind"] != "recorded" or "judges" in target or "embedder" in target
    limit = ASKING_ROWS if asks else GRADING_ROWS
    schema = compile_schema(run.evaluation.item_schema)
    open_shard: Shard | None = None
    renewed_at = timezone.now()
    number = 0
    for index, place in enumerate(places(run, schema)):
        if place.fault:
            raise _RowFault(place.fault)
        if open_shard is not None and not _fits(run, open_shard, place, limit):
            yield open_shard
            open_shard = None
        if open_shard is None:
            open_shard = Shard(
                account_id=run.account_id,
                run=run,
                number=number,
                first_row=index,
                row_count=0,
                start=place.start,
                stop=place.stop,
            )
            number += 1
        open_shard.row_count += 1
        open_shard.stop = place.stop
        now = timezone.now()
        if (now - renewed_at).total_seconds() > settings.ENGINE_RENEW_SECONDS:
            _renew(run)
            renewed_at = now
    if open_shard is not None:
        yield open_shard


def _fits(run: Run, shard: Shard, place: Place, limit: int) -> bool:
    if shard.row_count >= limit:
        return False
    return run.source_file_id is None or place.stop - shard.start <= SHARD_BYTES


def _renew(run: Run) -> None:
    kept = Run.objects.filter(pk=run.pk, plan_token=run.plan_token, state=Run.State.QUEUED).update(
        plan_until=lease_end(database_now())
    )
    if not kept:
        raise PlanLost


def _show(run: Run, row_count: int) -> None:
    """The one statement by which the shards become work."""
    if row_count == 0:
        if run.on_empty == Run.OnEmpty.FAIL:
            finish_run(run.pk, Run.State.FAILED, "empty_source", "The source has no rows.")
        else:
            finish_run(run.pk, Run.State.COMPLETED)
        return
    now = timezone.now()
    shown = Run.objects.filter(pk=run.pk, plan_token=run.plan_token, state=Run.State.QUEUED).update(
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
