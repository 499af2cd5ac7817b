"""One clock for all leases: the database's, since workers' clocks may differ."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection


def database_now() -> datetime:
    """The database's time, also within a transaction. On SQLite that is this machine's."""
    if connection.vendor != "postgresql":
        return datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def lease_end(now: datetime) -> datetime:
    return now + timedelta(seconds=settings.ENGINE_LEASE_SECONDS)


def uuid_parameter(value: Any) -> Any:
    """A UUID as the database's own column takes it in plain SQL."""
    return value if connection.features.has_native_uuid_field else value.hex


def close_connection() -> None:
    """Close the calling thread's connection.

    A thread must be given this function, never `connection.close`, which is a method of the
    connection of whoever names it.
    """
    connection.close()
