"""Tell the time of leases by the database's clock, since workers' clocks may differ."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import DateTimeField, Value
from django.db.models.functions import Now


def database_now() -> datetime:
    """Return the database's time now, also within a transaction; on SQLite this machine's."""
    if connection.vendor != "postgresql":
        return datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def clock() -> Now | datetime:
    """The database's time as a part of a statement, which saves asking for it before.

    On SQLite this machine's: the database's own has milliseconds, what is stored microseconds.
    """
    return Now() if connection.vendor == "postgresql" else datetime.now(UTC)


def clock_value() -> Now | Value:
    """The same to be selected beside other columns."""
    if connection.vendor == "postgresql":
        return Now()
    return Value(datetime.now(UTC), output_field=DateTimeField())


def lease_end_by_clock() -> Any:
    """Return the end of a lease that begins with the statement this is a part of."""
    return clock() + timedelta(seconds=settings.ENGINE_LEASE_SECONDS)


def lease_end(now: datetime) -> datetime:
    return now + timedelta(seconds=settings.ENGINE_LEASE_SECONDS)


def uuid_writer() -> Callable[[Any], Any]:
    """Return the function that turns a UUID into the parameter of plain SQL."""
    return (lambda value: value) if connection.features.has_native_uuid_field else attrgetter("hex")


def close_connection() -> None:
    """Close the calling thread's connection.

    A thread must be given this function, never `connection.close`, which is a method of the
    connection of whoever names it.
    """
    connection.close()
