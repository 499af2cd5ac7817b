"""Page through rows by keyset: each page costs the same, wherever it lies."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet

M = TypeVar("M", bound=Model)


def beyond(fields: Sequence[str], place: Sequence[Any], *, descending: bool = False) -> Q:
    """Build the condition for the rows after a place in the order of `fields`.

    fields: together unique, and all ascending or all descending. place: a value for each of them,
    which need not be those of a row that exists.
    """
    word = "lt" if descending else "gt"
    condition = Q(**{f"{fields[-1]}__{word}": place[-1]})
    for field, value in reversed(list(zip(fields[:-1], place[:-1], strict=True))):
        condition = Q(**{f"{field}__{word}": value}) | Q(**{field: value}) & condition
    if len(fields) > 1:
        # This bound says nothing new, but only by it does an index find the place.
        condition &= Q(**{f"{fields[0]}__{word}e": place[0]})
    return condition


def pages_of(
    rows: QuerySet[M], fields: Sequence[str], size: int, *, descending: bool = False
) -> Iterator[list[M]]:
    """Yield all rows in the order of `fields`, never more than a page in memory.

    Each page is a query of its own and not a piece of one cursor, so rows may be written on the
    same connection meanwhile.
    """
    ordered = rows.order_by(*(f"-{field}" if descending else field for field in fields))
    page = list(ordered[:size])
    while page:
        yield page
        if len(page) < size:
            return
        place = [getattr(page[-1], field) for field in fields]
        page = list(ordered.filter(beyond(fields, place, descending=descending))[:size])
