"""Pair two runs on the item: the values that each gave to the same rows."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apps.evaluations.engine.row_search import item_hashes
from apps.evaluations.models import MOST_ROWS, Criterion, Run
from apps.evaluations.models.results import ROW_SHIFT
from apps.evaluations.reports.values import Values, read_values

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# Makes another number of an item's for each time that it comes again.
ODD = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Pairs:
    """The values that two runs gave to the same items, in the order of the first run's rows.

    rows: their indexes in the first run. Items without a value in either are left out; of several
    repeats it is the mean of those that have a value.
    """

    rows: NDArray[np.int64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]


def pair_runs(first: tuple[Run, Criterion], second: tuple[Run, Criterion]) -> Pairs:
    """Pair a criterion's values in one run with another's in another, item by item.

    Runs over the same file or version have the same rows. In others an item's partner is the one
    with the same content, and of several such the one that comes at the same turn.
    """
    import numpy as np  # noqa: PLC0415  numpy costs a tenth of a second and 20 MB

    rows, values = _by_row(read_values(*first))
    partners, others = _by_row(read_values(*second))
    if not _have_same_rows(first[0], second[0]):
        partners, others = _translated(partners, others, *_matches(first[0], second[0]))
    common, at, of_other = np.intersect1d(rows, partners, assume_unique=True, return_indices=True)
    return Pairs(common, values[at], others[of_other])


def _by_row(values: Values) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the rows that have a value, in order, and the mean of their repeats."""
    import numpy as np  # noqa: PLC0415  numpy takes long to import

    there = ~np.isnan(values.numbers)
    rows = (values.keys[there] >> ROW_SHIFT) & (MOST_ROWS - 1)
    numbers = values.numbers[there]
    found, place, counts = np.unique(rows, return_inverse=True, return_counts=True)
    return found, np.bincount(place, weights=numbers, minlength=len(found)) / counts


def _have_same_rows(first: Run, second: Run) -> bool:
    return (first.source_file_id, first.source_version_id) == (
        second.source_file_id,
        second.source_version_id,
    )


def _matches(first: Run, second: Run) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the second run that have a partner, in order, and those partners."""
    import numpy as np  # noqa: PLC0415  numpy takes long to import

    rows, of_rows = _items(first)
    others, of_others = _items(second)
    _, at, of_other = np.intersect1d(of_rows, of_others, assume_unique=True, return_indices=True)
    order = np.argsort(others[of_other])
    return others[of_other][order], rows[at][order]


def _items(run: Run) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the indexes of a run's rows and a number for each item, which is its content's.

    The second and later of equal items have numbers of their own, the same ones in every run.
    """
    import numpy as np  # noqa: PLC0415  numpy takes long to import

    rows, hashes = array("q"), array("q")
    shards = run.shards.order_by("first_row").iterator(chunk_size=200)
    for first_row, of_shard in item_hashes(run, shards):
        # Keyed anew in each process, so nobody can look for two items with the same.
        hashes.extend(of_shard)
        rows.extend(range(first_row, first_row + len(of_shard)))
    found = np.frombuffer(hashes, dtype=np.int64).view(np.uint64)
    order = np.argsort(found, kind="stable")
    ordered = found[order]
    places = np.arange(len(ordered))
    is_first = np.ones(len(ordered), dtype=bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    turns = np.empty(len(ordered), dtype=np.uint64)
    turns[order] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return np.frombuffer(rows, dtype=np.int64), found + turns * np.uint64(ODD)


def _translated(
    rows: NDArray[np.int64],
    numbers: NDArray[np.float64],
    known: NDArray[np.int64],
    partners: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the partners of these rows in their order, with the numbers; rows without one go."""
    import numpy as np  # noqa: PLC0415  numpy takes long to import

    _, at, of_known = np.intersect1d(rows, known, assume_unique=True, return_indices=True)
    found, those = partners[of_known], numbers[at]
    order = np.argsort(found)
    return found[order], those[order]
