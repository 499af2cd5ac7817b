"""Read the rows of a run from where they lie: a file's lines or a frozen version's cases."""

from collections.abc import Container, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models.functions import Coalesce, Length

from apps.datasets.stored_files import read_file
from apps.datasets.tabular import BadRow, iter_lines
from apps.evaluations.models import Run, Shard
from apps.evaluations.targets import Row
from apps.grading.item_schemas import ItemSchema
from apps.strict_json import BadJSON, parse_json

CASES_AT_ONCE = 500
TOGETHER_BYTES = 4 * 1024 * 1024  # of neighbouring shards that are read at once


class RowSpan(NamedTuple):
    """A row on its way into a shard, which lies from `start` to before `stop` in the source.

    size: of its text. fault: why the run cannot use it, or None.
    """

    start: int
    stop: int
    size: int
    fault: str | None


def row_fault(row: Any, schema: ItemSchema) -> str | None:
    """Return what is wrong with a row of a file or a request, or None."""
    if not isinstance(row, dict):
        return "a row must be an object with the key item."
    item = row.get("item")
    if not isinstance(item, dict):
        return "item is missing." if "item" not in row else "item must be an object."
    if not isinstance(row.get("sample", {}), dict):
        return "sample must be an object."
    return schema.fault(item)


def row_spans(run: Run, schema: ItemSchema) -> Iterator[RowSpan]:
    """Yield every row of the run's source in order, checked; who meets a fault may stop there."""
    if run.source_version is not None:
        yield from _case_spans(run, schema)
        return
    for line in iter_lines(read_file(_file_id(run))):
        if isinstance(line, BadRow):
            yield RowSpan(0, 0, 0, f"{line.place}: {line.message}")
            continue
        try:
            fault = row_fault(parse_json(line.raw), schema)
        except BadJSON as error:
            fault = str(error).replace("at line 1, column", "at column")
        fault = f"line {line.number}: {fault}" if fault else None
        yield RowSpan(line.start, line.stop, line.stop - line.start, fault)


def _file_id(run: Run) -> UUID:
    assert run.source_file_id is not None
    return run.source_file_id


def _case_spans(run: Run, schema: ItemSchema) -> Iterator[RowSpan]:
    version = run.source_version
    assert version is not None
    after = -1
    while True:
        fields = ("position", "item", Coalesce(Length("sample"), 0))
        cases = list(version.cases(after + 1).values_list(*fields)[:CASES_AT_ONCE])
        for position, item, sample_size in cases:
            fault = schema.fault(parse_json(item))
            fault = f"case {position}: {fault}" if fault else None
            yield RowSpan(position, position + 1, len(item) + sample_size, fault)
        if len(cases) < CASES_AT_ONCE:
            return
        after = cases[-1][0]


def shard_rows(run: Run, shard: Shard, wanted: Container[int] | None = None) -> Iterator[Row]:
    """The rows of a shard in order; of those not wanted, the text is not even parsed."""
    if run.source_version is not None:
        cases = run.source_version.cases(shard.start).filter(position__lt=shard.stop)
        pairs = cases.values_list("item", "sample")
        for index, (item, sample) in enumerate(pairs, shard.first_row):
            if wanted is None or index in wanted:
                yield Row(index, parse_json(item), parse_json(sample) if sample else None)
        return
    yield from _lines(run, shard.start, shard.stop, shard.first_row, wanted)


def _lines(
    run: Run, start: int, stop: int, first_row: int, wanted: Container[int] | None = None
) -> Iterator[Row]:
    # Planned without fault, so the bytes are whole lines, and few enough to be held together.
    text = b"".join(read_file(_file_id(run), start, stop))
    lines = (line for line in text.split(b"\n") if line and not line.isspace())
    for index, line in enumerate(lines, first_row):
        if wanted is None or index in wanted:
            row = parse_json(line)
            yield Row(index, row["item"], row.get("sample"))


def rows_by_shard(run: Run, shards: Iterable[Shard]) -> Iterator[tuple[Shard, list[Row]]]:
    """Yield each shard with its rows; of a file, neighbours are read together."""
    for group in _neighbours(run, shards):
        first, last = group[0], group[-1]
        rows = shard_rows(run, first)
        if first is not last:
            rows = _lines(run, first.start, last.stop, first.first_row)
        for shard in group[:-1]:
            yield shard, list(islice(rows, shard.row_count))
        yield last, list(rows)


def _neighbours(run: Run, shards: Iterable[Shard]) -> Iterator[list[Shard]]:
    group: list[Shard] = []
    for shard in shards:
        if group and (
            run.source_version is not None
            or shard.first_row != group[-1].first_row + group[-1].row_count
            or shard.stop - group[0].start > TOGETHER_BYTES
        ):
            yield group
            group = []
        group.append(shard)
    if group:
        yield group
