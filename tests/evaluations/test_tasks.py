"""What the tasks do beside working on runs."""

import pytest
from django.db import connection

from apps.evaluations import tasks
from apps.evaluations.engine.worker import Worker
from tests.factories import make_actor, make_run


def counted_results() -> float:
    """How many results PostgreSQL's planner believes in."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE relname = 'evaluations_result'")
        return float(cursor.fetchone()[0])


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite keeps no such statistics")
@pytest.mark.django_db(transaction=True)
def test_the_database_looks_at_what_a_large_run_has_added(monkeypatch: pytest.MonkeyPatch):
    actor = make_actor()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE evaluations_result")
    make_run(actor, source=30)
    Worker().run()
    assert counted_results() <= 0
    monkeypatch.setattr(tasks, "LARGE_RUN", 30)
    make_run(actor, source=30)
    Worker().run()
    assert counted_results() == 60
