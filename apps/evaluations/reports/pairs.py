"""Pair two runs on the item: the values that each gave to the same rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

from apps.evaluations.engine.source import shard_rows
from apps.evaluations.models import MOST_ROWS, Criterion, Run
from apps.evaluations.models.results import ROW_SHIFT
from apps.evaluations.reports.values import Values, read_values

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
        matches = _matches(first[0], second[0])
        partners = matches[np.minimum(partners, len(matches) - 1)] if len(matches) else partners * 0
        known = partners >= 0
        order = np.argsort(partners[known], kind="stable")
        partners, others = partners[known][order], others[known][order]
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


def _matches(first: Run, second: Run) -> NDArray[np.int64]:
    """Return for each row of the second run the row of the first with the same item, or -1."""
    import numpy as np  # noqa: PLC0415  numpy takes long to import

    waiting: dict[bytes, list[int]] = {}
    for row, item in _items(first):
        waiting.setdefault(item, []).append(row)
    for rows in waiting.values():
        rows.reverse()
    matches = []
    for _, item in _items(second):
        partners = waiting.get(item)
        matches.append(partners.pop() if partners else -1)
    return np.array(matches, dtype=np.int64)


def _items(run: Run) -> Iterator[tuple[int, bytes]]:
    """Yield the index of every row with its item's digest, which no order of keys changes."""
    for shard in run.shards.order_by("first_row").iterator(chunk_size=200):
        for row in shard_rows(run, shard):
            yield row.index, blake2b(_canonical(row.item), digest_size=16).digest()


def _canonical(item: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # an integer beyond its range
        return json.dumps(item, sort_keys=True).encode()
