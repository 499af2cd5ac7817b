"""Find the rows of a run whose item has a certain value in a field, a page at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

from apps.evaluations.engine.row_search import rows_holding
from apps.evaluations.models import Run
from apps.strict_json import dump_json

SHARDS_AT_ONCE = 200
NOWHERE = object()


def rows_with(
    run: Run, path: Sequence[str], value: Any, *, first: int = 0, limit: int
) -> list[int]:
    """Return the indexes of the first rows, from `first` on, whose item has this value at `path`.

    path: the names of the fields that lead to it. value: any JSON value; 1 and 1.0 are equal, and
    so are objects whatever the order of their keys. Nothing is indexed: the rows are read where
    they lie, and only those are parsed whose text can hold the value.
    """
    found: list[int] = []
    text = _text_of(value)
    before = run.shards.order_by("-first_row").filter(first_row__lte=first)
    start = before.values_list("first_row", flat=True).first() or 0
    shards = run.shards.order_by("first_row").filter(first_row__gte=start)
    for row in rows_holding(run, shards.iterator(chunk_size=SHARDS_AT_ONCE), text):
        if row.index >= first and _is_same(_value_at(row.item, path), value):
            found.append(row.index)
            if len(found) == limit:
                break
    return found


def _text_of(value: Any) -> str:
    """Return a text that stands in every row with this value; "" where it has many spellings."""
    return dump_json(value) if value is None or isinstance(value, (str, bool)) else ""


def _value_at(item: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = item
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return NOWHERE
        value = value[name]
    return value


def _is_same(found: Any, wanted: Any) -> bool:
    # True equals 1 in Python, which it does not in JSON.
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)
