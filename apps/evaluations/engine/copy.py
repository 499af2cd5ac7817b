"""Begin where another run has been: take over its shards, and what results need no repeating."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.evaluations.engine.store import ROWS_AT_ONCE
from apps.evaluations.models import Result, Run, Score, Shard
from apps.evaluations.models.verdicts import by_machine
from apps.evaluations.tally import Tally
from apps.ids import new_id


def copy_shards(run: Run, source: Run) -> Iterator[Shard]:
    """Yield the same ranges of rows for another run over the same source; nothing is stored."""
    for old in source.shards.order_by("number").iterator(chunk_size=100):
        yield Shard(
            account_id=run.account_id,
            run=run,
            number=old.number,
            first_row=old.first_row,
            row_count=old.row_count,
            start=old.start,
            stop=old.stop,
        )


def copy_results(run: Run, source: Run, renew: Callable[[], None]) -> int:
    """Copy shard by shard what is finished; return how many rows the source has.

    `renew` is called in each transaction, first, and raises when the run is no longer ours to
    plan. Model usage is not copied: the retry paid for none of it.
    """
    _remove_results(run, renew)
    criteria = run.evaluation.criteria.filter(version=run.criteria_version).count()
    step = max(1, ROWS_AT_ONCE // (run.repeats * (1 + criteria)))
    rows = 0
    for shard in copy_shards(run, source):
        tally = Tally()
        rows += shard.row_count
        stop = shard.first_row + shard.row_count
        for first in range(shard.first_row, stop, step):
            with transaction.atomic():
                renew()
                _copy_rows(source, shard, tally, first, min(first + step, stop))
        shard.tally = tally.dump()
        if shard.done_count == shard.row_count * run.repeats:
            shard.finished_at = timezone.now()
        # After its results: a planner that dies in between leaves no shard that claims to be done.
        with transaction.atomic():
            renew()
            shard.save(force_insert=True)
    return rows


def _remove_results(run: Run, renew: Callable[[], None]) -> None:
    """Remove what a planner that died had copied."""
    while pks := list(Result.objects.filter(run=run).order_by().values_list("pk", flat=True)[:500]):
        with transaction.atomic():
            renew()
            Result.objects.filter(pk__in=pks).delete()


def _copy_rows(source: Run, shard: Shard, tally: Tally, first: int, stop: int) -> None:
    """Copy the finished results of rows `first` to before `stop` and count them on the shard."""
    now = timezone.now()
    kept = (
        Result.objects.filter(run=source, row_index__gte=first, row_index__lt=stop)
        .exclude(state=Result.State.ERRORED)
        .in_order()
        .prefetch_related("scores")
    )
    results, scores = [], []
    for result in kept:
        twin = _twin(result, run=shard.run, created_at=now)
        results.append(twin)
        counter = f"{result.state}_count"
        setattr(shard, counter, getattr(shard, counter) + 1)
        judged = result.scores.all()
        scores += [_twin(score, result=twin) for score in judged]
        for score in by_machine(judged):
            tally.judge(score.criterion_id.hex, score.value, score.passed, score.is_errored)
    shard.done_count += len(results)
    Result.objects.bulk_create(results)
    Score.objects.bulk_create(scores)


def _twin(row: Any, created_at: datetime | None = None, **changes: Any) -> Any:
    """An unsaved copy under a new id."""
    values = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    twin = type(row)(**{**values, "id": new_id()})
    for name, value in changes.items():
        setattr(twin, name, value)
    if created_at is not None:
        twin.created_at = created_at
    return twin
