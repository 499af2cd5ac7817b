"""Read single rows of a run from where they lie in the source, and nothing around them.

A shard says where its rows begin and end. Where each of them begins is found when the first of
them is asked for, and is kept: of a run that is planned it cannot change.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import QuerySet, Subquery
from django.db.models.functions import Coalesce

from apps.datasets.models import DatasetVersion, TestCase
from apps.datasets.stored_files import read_file
from apps.evaluations.models import Run, Shard
from apps.evaluations.targets import Row
from apps.kept import Kept
from apps.prepared import Prepared
from apps.strict_json import parse_stored

# Shards are looked up for so many rows at once.
WINDOW_ROWS = 10_000


class _Span(NamedTuple):
    """A shard's place in the source."""

    first_row: int
    start: int
    stop: int


_SPANS: Kept[Sequence[_Span]] = Kept(4 * 1024 * 1024)
_SPAN_BYTES = 200
# Where each row of a shard begins: its byte in a file, its position in a version.
_STARTS: Kept["array[int]"] = Kept(8 * 1024 * 1024)
# A frozen version's dataset and number.
_VERSIONS: Kept[tuple[UUID, int]] = Kept(64 * 1024)

_SHARDS = Prepared(
    lambda run_id, row, stop: (
        Shard.objects.filter(
            run_id=run_id,
            first_row__lt=stop,
            # The shard that holds the row begins before it; imported rows may begin later.
            first_row__gte=Coalesce(
                Subquery(
                    Shard.objects.filter(run_id=run_id, first_row__lte=row)
                    .order_by("-first_row")
                    .values("first_row")[:1]
                ),
                0,
            ),
        )
        .order_by("first_row")
        .values_list("first_row", "start", "stop")
    )
)


def _cases(dataset_id: Any, num: Any, first: Any, last: Any) -> QuerySet[TestCase]:
    cases = TestCase.objects.filter(dataset_id=dataset_id, position__gte=first, position__lte=last)
    return cases.as_of(num)


_POSITIONS = Prepared(
    lambda dataset_id, num, first, last: _cases(dataset_id, num, first, last).values_list(
        "position"
    )
)
_CASES = Prepared(
    lambda dataset_id, num, first, last: _cases(dataset_id, num, first, last).values_list(
        "item", "sample"
    )
)


def rows_at(run: Run, indexes: Iterable[int]) -> dict[int, Row]:
    """Return the rows of these indexes, without those that the run does not have."""
    found: dict[int, Row] = {}
    wanted = sorted(set(indexes))
    while wanted:
        span = _span_of(run, wanted[-1])
        if span is None:
            break
        inside = [index for index in wanted if index >= span.first_row]
        read = _cases_at if run.source_version_id is not None else _lines_at
        found.update((row.index, row) for row in read(run, span, inside))
        del wanted[-len(inside) :]
    return found


def _span_of(run: Run, row: int) -> _Span | None:
    """Return the place of the shard that holds a row, or would hold it."""
    window = row // WINDOW_ROWS
    spans = _SPANS.get((run.pk, window))
    if spans is None:
        first = window * WINDOW_ROWS
        shards = _SHARDS.rows(run_id=run.pk, row=first, stop=first + WINDOW_ROWS)
        spans = [_Span(*shard) for shard in shards]
        # Before that a planner may remove its shards again.
        if run.state != Run.State.QUEUED:
            _SPANS.put((run.pk, window), spans, _SPAN_BYTES * len(spans))
    place = bisect_right(spans, row, key=lambda span: span.first_row)
    return spans[place - 1] if place else None


def _lines_at(run: Run, span: _Span, indexes: Sequence[int]) -> Iterator[Row]:
    """Yield rows of one shard of a file. indexes: ascending."""
    assert run.source_file_id is not None
    starts, text, base = _STARTS.get((run.pk, span.first_row)), b"", span.start
    if starts is None:
        text = b"".join(read_file(run.source_file_id, span.start, span.stop))
        starts = array("Q", _line_starts(text, span.start))
        _keep(run, span, starts)
    ends = [*starts[1:], span.stop]
    places = [place for index in indexes if (place := index - span.first_row) < len(starts)]
    if places and not text:
        base = starts[places[0]]
        text = b"".join(read_file(run.source_file_id, base, ends[places[-1]]))
    lines = (text[starts[place] - base : ends[place] - base] for place in places)
    for place, row in zip(places, parse_stored(lines), strict=True):
        yield Row(span.first_row + place, row["item"], row.get("sample"))


def _line_starts(text: bytes, start: int) -> Iterator[int]:
    for line in text.split(b"\n"):
        if line and not line.isspace():
            yield start
        start += len(line) + 1


def _cases_at(run: Run, span: _Span, indexes: Sequence[int]) -> Iterator[Row]:
    """Yield rows of one shard of a frozen version. indexes: ascending."""
    version = run.source_version_id
    assert version is not None
    dataset_id, num = _VERSIONS.get_or_make(version, lambda: (_dataset_of(version), 100))
    of_version: dict[str, Any] = {"dataset_id": dataset_id, "num": num}
    starts = _STARTS.get((run.pk, span.first_row))
    if starts is None:
        found = _POSITIONS.rows(**of_version, first=span.start, last=span.stop - 1)
        starts = array("Q", (position for (position,) in found))
        _keep(run, span, starts)
    places = [place for index in indexes if (place := index - span.first_row) < len(starts)]
    if not places:
        return
    first, last = places[0], places[-1]
    cases = _CASES.rows(**of_version, first=starts[first], last=starts[last])
    texts = [cases[place - first] for place in places]
    items = parse_stored(item for item, _ in texts)
    samples = parse_stored(sample or "null" for _, sample in texts)
    for place, item, sample in zip(places, items, samples, strict=True):
        yield Row(span.first_row + place, item, sample)


def _keep(run: Run, span: _Span, starts: "array[int]") -> None:
    if run.state != Run.State.QUEUED:
        _STARTS.put((run.pk, span.first_row), starts, len(starts) * starts.itemsize)


def _dataset_of(version_id: UUID) -> tuple[UUID, int]:
    return DatasetVersion.objects.values_list("dataset_id", "num").get(pk=version_id)
