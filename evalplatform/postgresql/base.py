"""Django's backend for PostgreSQL, with a pool that seldom asks whether a connection is alive.

Django's own asks the server before every request, which takes a poll a third of its time.
"""

import time
from select import select
from typing import Any

import psycopg
from django.db.backends.postgresql import base

# A connection that was in use so lately is asked only if something has come in meanwhile: the end
# of the connection is what a server that stops sends.
TRUSTED_SECONDS = 5.0


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection, from the pool where there is one. Its CONN_HEALTH_CHECKS must be off."""

    def get_new_connection(self, conn_params: Any) -> Any:
        connection = super().get_new_connection(conn_params)
        while self.pool and not _is_alive(connection):
            connection.close()
            self.pool.putconn(connection)  # which replaces what is closed
            connection = super().get_new_connection(conn_params)
        return connection


def _is_alive(connection: Any) -> bool:
    now = time.monotonic()
    if now - getattr(connection, "asked_at", 0.0) < TRUSTED_SECONDS and _is_quiet(connection):
        return True
    try:
        connection.execute("")
    except psycopg.Error:
        return False
    connection.asked_at = now
    return True


def _is_quiet(connection: Any) -> bool:
    """Tell whether nothing has come in, not even the end of the connection."""
    try:
        return not select([connection.pgconn.socket], [], [], 0)[0]
    except (ValueError, OSError, psycopg.Error):  # closed, or a number too high for `select`
        return False
