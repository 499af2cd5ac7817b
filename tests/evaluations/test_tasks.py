"""What the tasks do beside working on runs."""

import pytest
from django.conf import settings
from django.db import connection
from django_q.brokers import get_broker

from apps.evaluations import tasks
from apps.evaluations.engine import plan as plan_module
from apps.evaluations.engine.heartbeats import renew_leases, renew_machine
from apps.evaluations.engine.worker import Worker
from apps.ids import new_id
from tests.evaluations.engine.shards import plan
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


@pytest.fixture
def queue(db):
    broker = get_broker()
    broker.purge_queue()
    yield broker
    broker.purge_queue()


def test_as_many_workers_are_called_as_idle_and_can_be_used(queue):
    renew_machine(5)
    tasks.ring(3)
    assert queue.queue_size() == 3
    tasks.ring(9)
    assert queue.queue_size() == 5


def test_a_worker_is_called_although_all_seem_busy(queue):
    renew_machine(settings.WORKERS)
    for _ in range(settings.WORKERS):
        renew_leases(new_id(), [], [])
    tasks.ring(9)
    assert queue.queue_size() == 1


def test_a_plan_calls_a_worker_for_each_shard_but_its_planners_own(queue, monkeypatch):
    monkeypatch.setattr(plan_module, "GRADING_ROWS", 10)
    renew_machine(8)
    run = make_run(source=40)
    queue.purge_queue()
    plan(run)
    assert queue.queue_size() == 3
    plan(make_run(source=10))
    assert queue.queue_size() == 3
