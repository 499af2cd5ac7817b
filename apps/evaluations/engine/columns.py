"""Keep the verdicts of finished shards by criterion as well, to sort and count runs by them."""

from collections.abc import Callable

from django.db import transaction

from apps.bulk import insert_rows
from apps.evaluations.models import MOST_COLUMNS, Column, Result, Run, Shard, column_key
from apps.evaluations.packing import pack_columns

COLUMNS_AT_ONCE = 500  # removed in one transaction; one has some kilobytes


def store_columns(run: Run, shard: Shard) -> None:
    """Store the columns of a shard that has all its results.

    Call it in the transaction that finishes the shard. They are read back, since results may have
    been stored by several workers.
    """
    results = Result.objects.in_rows(run, shard.first_row, shard.first_row + shard.row_count)
    rows = list(results.in_order().values_list("verdicts", "scores"))
    columns = [
        (column_key(run.number, position, shard.first_row), *column)
        for position, column in enumerate(pack_columns(rows)[:MOST_COLUMNS])
    ]
    if columns:
        insert_rows(Column, ("id", "letters", "numbers"), columns)


def remove_columns_of(run: Run, shard: Shard, criteria: int) -> None:
    """Remove the columns of one shard: its results are read until they are stored again."""
    positions = range(min(criteria, MOST_COLUMNS))
    keys = [column_key(run.number, position, shard.first_row) for position in positions]
    Column.objects.filter(pk__in=keys).delete()


def remove_columns(run: Run, renew: Callable[[], None] = lambda: None) -> bool:
    """Remove some columns of a run in a transaction that `renew` opens; False when none is left."""
    keys = list(Column.objects.of_run(run).values_list("pk", flat=True)[:COLUMNS_AT_ONCE])
    if keys:
        with transaction.atomic():
            renew()
            # Without model objects and signals, which nothing here listens to.
            Column.objects.filter(pk__gte=keys[0], pk__lte=keys[-1])._raw_delete("default")
    return bool(keys)
