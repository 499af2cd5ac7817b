"""The web server's pool gives no dead connection away, and seldom asks the living ones."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

pytestmark = pytest.mark.skipif(connection.vendor != "postgresql", reason="it is PostgreSQL's")


@pytest.fixture
def pooled() -> Iterator[Any]:
    """A connection of its own pool, as the web server's threads have."""
    # Imported where its driver's server is: on SQLite the module is of no use.
    from evalplatform.postgresql.base import DatabaseWrapper  # noqa: PLC0415  see above

    own = {**connection.settings_dict, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False}
    own["OPTIONS"] = {**settings.DATABASES["default"]["OPTIONS"], "pool": {"min_size": 1}}
    wrapper = DatabaseWrapper(own, alias="pooled")
    yield wrapper
    wrapper.close()
    wrapper.close_pool()


def pid_of(pooled: Any) -> int:
    """The server's process behind the connection that a request gets."""
    with pooled.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    pooled.close()
    return pid


@pytest.mark.django_db
def test_a_connection_that_the_server_ended_costs_no_request(pooled):
    pid = pid_of(pooled)
    assert pid_of(pooled) == pid
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    assert pid_of(pooled) != pid


@pytest.mark.django_db
def test_a_connection_that_was_used_lately_is_not_asked_again(pooled, monkeypatch):
    pid_of(pooled)
    pooled.ensure_connection()
    monkeypatch.setattr(pooled.connection, "execute", None)
    pooled.close()
    pid_of(pooled)
