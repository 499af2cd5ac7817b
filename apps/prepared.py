"""Run querysets that are compiled once: to build the SQL takes longer than to run it.

    OPEN_RUNS = Prepared(lambda account: Run.objects.filter(account=account).values_list("id"))
    OPEN_RUNS.rows(account=actor.account.pk, limit=10)

On SQLite the driver keeps such a statement compiled, on PostgreSQL the connection keeps it prepared
(see PREPARED_STATEMENTS in the settings).
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection
from django.db.backends.utils import CursorWrapper
from django.db.models import Expression, QuerySet

from apps.keyset import beyond


class Argument(Expression):
    """The place in a compiled statement of a value that comes when it is run."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "%s", [self]


@dataclass(frozen=True)
class _Compiled:
    """A statement for one kind of database.

    parameters: values, and Arguments for those that come later. converters: the position of a
    column and what makes Python's value of the database's.
    """

    sql: str
    parameters: Sequence[Any]
    converters: Sequence[tuple[int, Callable[[Any], Any]]]


class Prepared:
    """A queryset of `values_list`, made by `build` from its arguments, whose rows are tuples.

    build sees an Argument for each of its parameters, once, so the arguments may only be compared
    with columns: no Python value can depend on them. names: of the parameters, where build does not
    tell them.
    """

    alias = DEFAULT_DB_ALIAS

    def __init__(
        self, build: Callable[..., QuerySet[Any, Any]], names: Sequence[str] | None = None
    ) -> None:
        self._build = build
        self._names = [*inspect.signature(build).parameters] if names is None else names
        self._compiled: dict[str, _Compiled] = {}

    def rows(self, *, limit: int | None = None, **arguments: Any) -> list[tuple[Any, ...]]:
        """Return the rows, at most `limit`."""
        compiled = self._compiled.get(connection.vendor) or self._compile()
        sql = compiled.sql
        values = [
            _adapted(arguments[one.name]) if isinstance(one, Argument) else one
            for one in compiled.parameters
        ]
        if limit is not None:
            sql, values = f"{sql} LIMIT %s", [*values, limit]
        with _cursor() as cursor:
            cursor.execute(sql, values)
            rows = cursor.fetchall()
        if connection.queries_logged and connection.queries_log[-1]["sql"] is None:
            # Django asks the cursor for it, and psycopg's forgets what it has prepared.
            connection.queries_log[-1]["sql"] = sql
        if not compiled.converters:
            return rows
        columns = [*zip(*rows, strict=True)]
        if not columns:
            return []
        for index, convert in compiled.converters:
            columns[index] = tuple(map(convert, columns[index]))
        return [*zip(*columns, strict=True)]

    def first(self, **arguments: Any) -> tuple[Any, ...] | None:
        """Return the first row, None when there is none."""
        rows = self.rows(limit=1, **arguments)
        return rows[0] if rows else None

    def _compile(self) -> _Compiled:
        queryset = self._build(**{name: Argument(name) for name in self._names})
        compiler = queryset.query.get_compiler(connection=connection)
        sql, parameters = compiler.as_sql()
        found = compiler.get_converters(expression for expression, *_ in compiler.select)
        converters = [
            (index, _converter(converters, expression))
            for index, (converters, expression) in found.items()
        ]
        compiled = _Compiled(sql, parameters, converters)
        self._compiled[connection.vendor] = compiled
        return compiled


class PreparedPages:
    """Pages of a queryset by keyset, each kind of them compiled once.

    build: makes the queryset as for Prepared, in whatever order. fields: those that it is ordered
    by, together unique.
    """

    def __init__(self, build: Callable[..., QuerySet[Any, Any]], fields: Sequence[str]) -> None:
        self.fields = fields
        names = [*inspect.signature(build).parameters]
        places = [f"place_{field}" for field in fields]

        def page(descending: bool, arguments: dict[str, Any]) -> QuerySet[Any, Any]:
            place = [arguments.pop(name) for name in places if name in arguments]
            rows = build(**arguments)
            if place:
                rows = rows.filter(beyond(fields, place, descending=descending))
            sign = "-" if descending else ""
            return rows.order_by(*(f"{sign}{field}" for field in fields))

        def prepared(descending: bool, names: Sequence[str]) -> Prepared:
            return Prepared(lambda **arguments: page(descending, arguments), names)

        self._first = {way: prepared(way, names) for way in (False, True)}
        self._beyond = {way: prepared(way, [*names, *places]) for way in (False, True)}

    def rows(
        self, place: Sequence[Any] | None, *, descending: bool, limit: int, **arguments: Any
    ) -> list[tuple[Any, ...]]:
        """Return the rows after a place, or the first ones; see `beyond`."""
        if place is None:
            return self._first[descending].rows(limit=limit, **arguments)
        values = {f"place_{field}": value for field, value in zip(self.fields, place, strict=True)}
        return self._beyond[descending].rows(limit=limit, **arguments, **values)


def _converter(converters: Sequence[Callable[..., Any]], expression: Any) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        for one in converters:
            value = one(value, expression, connection)
        return value

    return convert


def _adapted(value: Any) -> Any:
    """Return a value as the database's driver takes it."""
    if isinstance(value, UUID):
        return value if connection.features.has_native_uuid_field else value.hex
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    return value


@contextmanager
def _cursor() -> Iterator[CursorWrapper]:
    """Open a cursor whose statements are prepared, within Django's own wrapper.

    Django's cursors for PostgreSQL put the values into the text, which leaves nothing to prepare.
    The driver would keep a hundred such texts to count them, pieces of files among them: so it
    prepares for as long as this cursor is open, and no longer.
    """
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            yield cursor
            return
        driver: Any = connection
        raw = connection.connection
        cursor.cursor = driver.Database.Cursor(raw)
        raw.prepare_threshold = 0 if settings.PREPARED_STATEMENTS else None
        try:
            yield cursor
        finally:
            raw.prepare_threshold = None
