"""Page by keyset: each page costs the same wherever it lies, and nothing is counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from django.db import models
from django.db.models import Q, QuerySet
from django.http import QueryDict

from apps.keyset import beyond

M = TypeVar("M", bound=models.Model)
Place = tuple[Any, ...]

AFTER, BEFORE = "after", "before"
PAGE_ROWS = 50
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Page(Generic[M]):
    """Some rows in order. previous, next: the query strings of the pages beside it, or empty."""

    rows: Sequence[M]
    previous: str
    next: str

    @property
    def is_first(self) -> bool:
        return not self.previous


@dataclass(frozen=True)
class Order:
    """The order of a model's rows. fields: together unique, and all ascending or all descending."""

    model: type[models.Model]
    fields: tuple[str, ...]
    descending: bool = False

    def apply(self, rows: QuerySet[M], *, backwards: bool = False) -> QuerySet[M]:
        sign = "-" if self.descending != backwards else ""
        return rows.order_by(*(f"{sign}{field}" for field in self.fields))

    def beyond(self, place: Place, *, backwards: bool = False) -> Q:
        """Make the condition for the rows after a place, or for those before it."""
        return beyond(self.fields, place, descending=self.descending != backwards)

    def place_of(self, row: models.Model) -> Place:
        return tuple(getattr(row, field) for field in self.fields)

    def write(self, place: Place) -> str:
        """Write a place for a query string."""
        return ".".join(_write(value) for value in place)

    def read(self, text: str) -> Place | None:
        """Read a place that `write` wrote; None for any other text."""
        parts = text.split(".")
        if len(parts) != len(self.fields):
            return None
        try:
            return tuple(
                _read(part, self.model._meta.get_field(field))
                for part, field in zip(parts, self.fields, strict=True)
            )
        except (ValueError, OverflowError):
            return None


class Finder(Protocol[M]):
    """Finds the first `limit` rows after a place, or the last ones before it, nearest first."""

    def __call__(self, place: Place | None, *, backwards: bool, limit: int) -> list[M]: ...


def newest_first(model: type[models.Model]) -> Order:
    return Order(model, ("created_at", "id"), descending=True)


def finder(rows: QuerySet[M], order: Order) -> Finder[M]:
    """Make a finder of a queryset's rows."""

    def find(place: Place | None, *, backwards: bool, limit: int) -> list[M]:
        wanted = rows.filter(order.beyond(place, backwards=backwards)) if place else rows
        return list(order.apply(wanted, backwards=backwards)[:limit])

    return find


def page_of(find: Finder[M], order: Order, query: QueryDict, *, size: int = PAGE_ROWS) -> Page[M]:
    """Find the page that the query string asks for; the first where it asks for none or wrongly."""
    if place := order.read(query.get(BEFORE, "")):
        found = find(place, backwards=True, limit=size + 1)
        # Fewer would make a short first page; then the whole first page is shown.
        if len(found) > size:
            rows = found[size - 1 :: -1]
            return Page(
                rows, _link(query, BEFORE, rows[0], order), _link(query, AFTER, rows[-1], order)
            )
    place = order.read(query.get(AFTER, ""))
    found = find(place, backwards=False, limit=size + 1)
    rows = found[:size]
    previous = ""
    if place is not None:
        previous = _link(query, BEFORE, rows[0], order) if rows else without_place(query)
    return Page(rows, previous, _link(query, AFTER, rows[-1], order) if len(found) > size else "")


def with_query(query: QueryDict, **changes: str | None) -> str:
    """Return the query string with these values in place of its own; None removes one."""
    changed = query.copy()
    for name, value in changes.items():
        if value is None:
            changed.pop(name, None)
        else:
            changed[name] = value
    return f"?{changed.urlencode()}"


def without_place(query: QueryDict) -> str:
    """Return the query string of the first page."""
    return with_query(query, **{AFTER: None, BEFORE: None})


def _link(query: QueryDict, word: str, row: models.Model, order: Order) -> str:
    other = AFTER if word == BEFORE else BEFORE
    return with_query(query, **{word: order.write(order.place_of(row)), other: None})


def _write(value: Any) -> str:
    if isinstance(value, datetime):
        return str((value - EPOCH) // MICROSECOND)
    return value.hex if isinstance(value, UUID) else str(value)


def _read(text: str, field: Any) -> Any:
    if isinstance(field, models.UUIDField):
        return UUID(text)
    number = int(text)
    if not 0 <= number <= LARGEST:
        raise ValueError(text)
    return EPOCH + number * MICROSECOND if isinstance(field, models.DateTimeField) else number
