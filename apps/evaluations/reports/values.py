"""Look at one criterion over a whole run: sort and narrow the results by it, and count.

Finished shards keep the verdicts of a criterion side by side (see `Column`); those of others are
read from the results themselves. A million values are eight megabytes and a few dozen
milliseconds, so that no index by value is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from apps.evaluations.models import (
    MOST_COLUMNS,
    MOST_REPEATS,
    Column,
    Criterion,
    Result,
    Run,
    key_of,
)
from apps.evaluations.packing import MISSING, PLAIN_VALUES, PackedColumn, pack_columns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESULTS_AT_ONCE = 5_000


class Place(NamedTuple):
    """A result in the order by value: where a page ends and the next one begins."""

    value: float
    key: int


@dataclass(frozen=True)
class Values:
    """The verdicts of a criterion on the results of a run, in the order of their keys.

    letters: the codes of the letters of packing.py. numbers: NaN where there is no value.
    """

    keys: NDArray[np.int64]
    letters: NDArray[np.uint8]
    numbers: NDArray[np.float64]

    def sorted_keys(
        self,
        limit: int,
        *,
        after: Place | None = None,
        descending: bool = False,
        low: float | None = None,
        high: float | None = None,
    ) -> list[Place]:
        """Return the first results in the order of their values, then of their keys.

        low, high: bounds of the value, both included. Results without a value are left out.
        """
        import numpy as np  # noqa: PLC0415  numpy costs a tenth of a second and 20 MB

        chosen = ~np.isnan(self.numbers)
        if low is not None:
            chosen &= self.numbers >= low
        if high is not None:
            chosen &= self.numbers <= high
        sign = -1.0 if descending else 1.0
        numbers, keys = sign * self.numbers[chosen], self.keys[chosen]
        if after is not None:
            place = sign * after.value
            beyond = (numbers > place) | ((numbers == place) & (keys > after.key))
            numbers, keys = numbers[beyond], keys[beyond]
        if len(numbers) > limit:
            # All that are not above the last of the page; of equal ones the first by key are kept.
            bound = np.partition(numbers, limit - 1)[limit - 1]
            near = numbers <= bound
            numbers, keys = numbers[near], keys[near]
        order = np.lexsort((keys, numbers))[:limit]
        return [
            Place(sign * float(number), int(key))
            for number, key in zip(numbers[order], keys[order], strict=True)
        ]

    def histogram(self, edges: Sequence[float]) -> list[int]:
        """Count the values between neighbouring edges; the last interval has both its ends."""
        import numpy as np  # noqa: PLC0415  numpy takes long to import

        there = self.numbers[~np.isnan(self.numbers)]
        return [int(count) for count in np.histogram(there, bins=list(edges))[0]]

    def with_letters(self, letters: str) -> list[int]:
        """Return the keys of the results whose verdict is one of these letters."""
        import numpy as np  # noqa: PLC0415  numpy takes long to import

        wanted = np.frombuffer(letters.encode(), dtype=np.uint8)
        return [int(key) for key in self.keys[np.isin(self.letters, wanted)]]


def read_values(run: Run, criterion: Criterion) -> Values:
    """Read a criterion's verdicts over the run, as far as it has come."""
    import numpy as np  # noqa: PLC0415  numpy takes long to import

    keys: list[NDArray[np.int64]] = []
    letters: list[bytes] = []
    numbers: list[NDArray[np.float64]] = []
    plain = np.full(256, np.nan)
    for letter, value in PLAIN_VALUES.items():
        plain[ord(letter)] = value
    for of_piece, column in _pieces(run, criterion.position):
        codes = column.letters.encode()
        keys.append(np.asarray(of_piece, dtype=np.int64))
        letters.append(codes)
        if column.numbers is None:
            numbers.append(plain[np.frombuffer(codes, dtype=np.uint8)])
        else:
            numbers.append(np.frombuffer(column.numbers, dtype="<f8"))
    if not keys:
        nothing = np.empty(0)
        return Values(nothing.astype(np.int64), nothing.astype(np.uint8), nothing)
    return Values(
        np.concatenate(keys),
        np.frombuffer(b"".join(letters), dtype=np.uint8),
        np.concatenate(numbers),
    )


def _pieces(
    run: Run, position: int
) -> Iterator[tuple[NDArray[np.int64] | list[int], PackedColumn]]:
    """Yield keys of results with their verdicts, in order, from columns as far as there are any."""
    import numpy as np  # noqa: PLC0415  numpy takes long to import

    first = key_of(run.number, 0)
    repeats = np.arange(run.repeats, dtype=np.int64)
    columns = Column.objects.of_criterion(run, position)
    if position >= MOST_COLUMNS:
        columns = columns.none()
    next_row = 0
    for column in columns.iterator(chunk_size=100):
        yield from _read_results(run, position, next_row, column.first_row)
        row_count = len(column.letters) // run.repeats
        places = np.arange(column.first_row, column.first_row + row_count, dtype=np.int64)
        of_rows = first + places * MOST_REPEATS
        keys = (of_rows[:, None] + repeats).reshape(-1)
        yield keys, PackedColumn(column.letters, column.numbers)
        next_row = column.first_row + row_count
    yield from _read_results(run, position, next_row, None)


def _read_results(
    run: Run, position: int, first_row: int, stop: int | None
) -> Iterator[tuple[list[int], PackedColumn]]:
    """Yield the same of rows that have no column, from their results."""
    if first_row == stop:
        return
    results = Result.objects.of_run(run)
    last = None if stop is None else key_of(run.number, stop)
    key = key_of(run.number, first_row)
    while True:
        rows = results.filter(pk__gte=key)
        if last is not None:
            rows = rows.filter(pk__lt=last)
        found = list(rows.in_order().values_list("pk", "verdicts", "scores")[:RESULTS_AT_ONCE])
        columns = pack_columns([(verdicts, scores) for _, verdicts, scores in found])
        if found:
            nothing = PackedColumn(MISSING * len(found), None)
            column = columns[position] if position < len(columns) else nothing
            yield [pk for pk, _, _ in found], column
        if len(found) < RESULTS_AT_ONCE:
            return
        key = found[-1][0] + 1
