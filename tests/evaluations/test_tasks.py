"""The tasks refresh statistics, ring bells and purge, beside working on runs."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_q.brokers import get_broker

from apps.evaluations import tasks
from apps.evaluations.engine import plan as plan_module
from apps.evaluations.engine import sweep as sweep_module
from apps.evaluations.engine.heartbeats import ready_workers, renew_leases, renew_machine
from apps.evaluations.engine.worker import Worker
from apps.evaluations.models import UpkeepLease
from apps.ids import new_id
from apps.leases import database_now
from tests.evaluations.engine.shards import plan
from tests.factories import make_actor, make_run
from tests.patience import wait_until


def counted_results() -> float:
    """Ask PostgreSQL's planner in how many results it believes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE relname = 'evaluations_result'")
        return float(cursor.fetchone()[0])


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite keeps no such statistics")
@pytest.mark.django_db(transaction=True)
def test_the_sweep_has_the_database_look_at_what_a_large_run_has_added(monkeypatch):
    actor = make_actor()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE evaluations_result")
    make_run(actor, source=30)
    Worker().run()
    tasks.sweep()
    assert counted_results() <= 0
    monkeypatch.setattr(sweep_module, "CHANGED_ROWS", 30)
    wait_until(lambda: (tasks.sweep(), counted_results() == 30)[1], 15)


def statements(work) -> list[str]:
    """The statements that go to the database, those that open and end transactions included."""
    with CaptureQueriesContext(connection) as queries:
        work()
    return [query["sql"] for query in queries]


SWEEPS = 6


def half_a_minute() -> None:
    """All that the supervisor of a machine asks in half a minute at 5 s a sweep."""
    for _ in range(SWEEPS):
        tasks.is_stuck()
        tasks.sweep()


@pytest.mark.django_db(transaction=True)
def test_a_machine_that_idles_asks_at_most_three_statements_a_second(monkeypatch):
    tasks.sweep()  # the first finds no row of its own, and looks for history
    monkeypatch.setitem(tasks._purging, "due_at", 0)
    asked = statements(half_a_minute)
    assert len(asked) / 30 <= 3, asked
    UpkeepLease.objects.update(machine="another")
    asked = statements(half_a_minute)
    assert len(asked) / 30 <= 1, asked


@pytest.mark.django_db(transaction=True)
def test_one_machine_sweeps_for_all_until_it_dies(settings, monkeypatch):
    swept = []
    monkeypatch.setattr(tasks, "_sweep_for_all", lambda: swept.append(settings.MACHINE_NAME))
    for machine in ("one", "two", "one"):
        settings.MACHINE_NAME = machine
        tasks.sweep()
    assert swept == ["one", "one"]
    UpkeepLease.objects.update(lease_until=database_now() - timedelta(seconds=1))  # one died
    for machine in ("two", "one", "two"):
        settings.MACHINE_NAME = machine
        tasks.sweep()
    assert swept == ["one", "one", "two", "two"]
    assert ready_workers() == 2 * settings.WORKERS


@pytest.mark.django_db(transaction=True)
def test_a_machine_that_cannot_sweep_lets_another_try(settings, monkeypatch):
    monkeypatch.setattr(tasks, "_sweep_for_all", lambda: 1 / 0)
    settings.MACHINE_NAME = "one"
    with pytest.raises(ZeroDivisionError):
        tasks.sweep()
    swept = []
    monkeypatch.setattr(tasks, "_sweep_for_all", lambda: swept.append(settings.MACHINE_NAME))
    settings.MACHINE_NAME = "two"
    tasks.sweep()
    assert swept == ["two"]


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
