"""Begin a retry: the shards of the run it repeats, with the results that need no repeating."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.evaluations.engine.tally import Tally
from apps.evaluations.models import Result, Run, Score, Shard
from apps.ids import new_id

STATES = {
    Result.State.PASSED: "passed_count",
    Result.State.FAILED: "failed_count",
    Result.State.UNJUDGED: "unjudged_count",
}


def copy_results(run: Run, renew: Callable[[], None]) -> int:
    """Copy shard by shard; how many rows the source has. `renew` is called before each shard.

    Model usage is not copied: the retry paid for none of it.
    """
    source = run.retry_of
    assert source is not None
    _remove_results(run)
    rows = 0
    for old in source.shards.order_by("number").iterator(chunk_size=100):
        renew()
        rows = old.first_row + old.row_count
        _copy_shard(run, source, old)
    return rows


def _remove_results(run: Run) -> None:
    while pks := list(Result.objects.filter(run=run).values_list("pk", flat=True)[:500]):
        Result.objects.filter(pk__in=pks).delete()


@transaction.atomic
def _copy_shard(run: Run, source: Run, old: Shard) -> None:
    now = timezone.now()
    kept = (
        Result.objects.filter(
            run=source,
            row_index__gte=old.first_row,
            row_index__lt=old.first_row + old.row_count,
        )
        .exclude(state=Result.State.ERRORED)
        .in_order()
        .prefetch_related("scores")
    )
    tally = Tally()
    counts = dict.fromkeys(STATES.values(), 0)
    results, scores = [], []
    for result in kept:
        twin = _twin(result, run=run, created_at=now)
        results.append(twin)
        counts[STATES[Result.State(result.state)]] += 1
        for score in result.scores.all():
            scores.append(_twin(score, result=twin))
            if score.source == Score.Source.MACHINE:
                tally.judge(score.criterion_id.hex, score.value, score.passed, score.is_errored)
    Shard.objects.create(
        account_id=run.account_id,
        run=run,
        number=old.number,
        first_row=old.first_row,
        row_count=old.row_count,
        start=old.start,
        stop=old.stop,
        done_count=len(results),
        tally=tally.dump(),
        finished_at=now if len(results) == old.row_count * run.repeats else None,
        **counts,
    )
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
