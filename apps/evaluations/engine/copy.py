"""Begin where another run has been: take over its shards, and what results need no repeating."""

from collections.abc import Callable, Iterator
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from apps.evaluations.engine.columns import remove_columns, store_columns
from apps.evaluations.engine.store import ROWS_AT_ONCE
from apps.evaluations.models import Result, Run, Shard, key_of
from apps.evaluations.tally import Tally


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
    step = max(1, ROWS_AT_ONCE // run.repeats)
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
            if shard.finished_at is not None:
                store_columns(run, shard)
    return rows


def _remove_results(run: Run, renew: Callable[[], None]) -> None:
    """Remove what a planner that died had copied."""
    while pks := list(Result.objects.of_run(run).in_order().values_list("pk", flat=True)[:500]):
        with transaction.atomic():
            renew()
            Result.objects.filter(pk__in=pks).delete()
    while remove_columns(run, renew):
        pass


def _copy_rows(source: Run, shard: Shard, tally: Tally, first: int, stop: int) -> None:
    """Copy the finished results of rows `first` to before `stop` and count them on the shard."""
    now = timezone.now()
    kept = (
        Result.objects.in_rows(source, first, stop).exclude(state=Result.State.ERRORED).in_order()
    )
    criteria = shard.run.evaluation.criteria.filter(version=shard.run.criteria_version)
    keys = [pk.hex for pk in criteria.order_by("position").values_list("pk", flat=True)]
    results = []
    for result in kept:
        results.append(_twin(result, shard.run, now))
        counter = f"{result.state}_count"
        setattr(shard, counter, getattr(shard, counter) + 1)
        for key, verdict in zip(keys, result.read_verdicts(), strict=False):
            if verdict is not None:
                tally.judge(key, verdict.value, verdict.passed, verdict.is_errored)
    shard.done_count += len(results)
    Result.objects.bulk_create(results)


def _twin(result: Result, run: Run, now: datetime) -> Result:
    """Return an unsaved copy for another run."""
    values = {field.attname: getattr(result, field.attname) for field in Result._meta.fields}
    values |= {
        "id": key_of(run.number, result.row_index, result.repeat),
        "stored_at": int(now.timestamp()),
    }
    return Result(**values)
