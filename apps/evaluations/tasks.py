"""The doorbell: a message means only that there is work, and the work finds itself."""

import logging
import socket
import threading
import time
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.dispatch import receiver
from django_q.brokers import get_broker
from django_q.tasks import async_task
from redis.exceptions import RedisError

from apps.datasets.bulk_insert import purge_datasets
from apps.datasets.stored_files import purge_files
from apps.evaluations.engine.desk import beat_machine, busy_workers, sweep_runs
from apps.evaluations.engine.purge import purge_history, purge_runs
from apps.evaluations.engine.webhooks import deliver_due, is_due
from apps.evaluations.engine.work import Worker
from apps.evaluations.models import Result, Run, Score, Shard
from apps.evaluations.signals import run_finished
from apps.inference.stored_completions import purge_completions

LARGE_RUN = 10_000  # results

log = logging.getLogger(__name__)
_delivering = threading.Lock()

HISTORY_SECONDS = 3600
_history = {"due_at": 0.0}


def ring() -> None:
    """Call one worker, unless as many calls as there are workers wait already.

    A bell that cannot be rung is logged and no more: the sweep rings again.
    """
    _call("work")


def _call(name: str) -> None:
    try:
        if get_broker().queue_size() < settings.WORKERS:
            async_task(f"apps.evaluations.tasks.{name}", task_name=name)
    except (RedisError, DatabaseError):
        log.exception("The queue cannot be reached; it waits for the sweep")


def ring_on_commit() -> None:
    transaction.on_commit(ring)


def work() -> None:
    """One slice of whatever there is to do. The queue's workers run this."""
    is_more = Worker().run()
    if is_more:
        ring()


def ring_for_delivery() -> None:
    _call("deliver")


@receiver(run_finished)
def tell_webhooks(**_: object) -> None:
    """Ring where a run has ended that webhooks are to be told of."""
    try:
        is_to_tell = is_due()
    except DatabaseError:
        log.exception("Webhooks cannot be looked at; they wait for the sweep")
    else:
        if is_to_tell:
            ring_for_delivery()


@receiver(run_finished)
def refresh_statistics(run_id: UUID, **_: object) -> None:
    """Have PostgreSQL look at what a large run has added, before its pages are asked for.

    By itself it does so a minute later; until then it plans for a run of a hundred results, and
    reads whole tables for a page.
    """
    if connection.vendor != "postgresql":
        return
    try:
        total = Run.objects.filter(pk=run_id).values_list("total_count", flat=True).first()
        if total is not None and total >= LARGE_RUN:
            tables = ", ".join(model._meta.db_table for model in (Result, Score, Shard))
            with connection.cursor() as cursor:
                cursor.execute(f"ANALYZE (SKIP_LOCKED) {tables}")
    except DatabaseError:
        log.exception("The statistics of the results could not be refreshed")


def deliver() -> None:
    """Send in the background what webhooks are to be told, unless this process is at it already.

    A thread, for neither a queue's worker nor the sweep may wait for somebody else's server: a
    worker that waits would look like a queue that is stuck.
    """
    if is_due() and _delivering.acquire(blocking=False):
        threading.Thread(target=_deliver, name="webhooks", daemon=True).start()


def _deliver() -> None:
    try:
        while deliver_due():
            pass
    except Exception:
        log.exception("Webhooks cannot be told; the next sweep tries again")
    finally:
        connection.close()
        _delivering.release()


def sweep() -> None:
    """Close what nobody closed, ring for what nobody works on, purge what is deleted.

    The supervisor of every machine with workers calls this, which also shows that it is there.
    """
    beat_machine(settings.WORKERS)
    if sweep_runs():
        ring()
    deliver()
    purge_runs()
    purge_completions()
    _purge_history_now_and_then()
    purge_files()
    purge_datasets()
    connection.close_if_unusable_or_obsolete()


def _purge_history_now_and_then() -> None:
    """Each supervisor by itself: to look takes a walk over what is kept."""
    if time.monotonic() >= _history["due_at"]:
        pause = 0 if purge_history() else HISTORY_SECONDS
        _history["due_at"] = time.monotonic() + pause


def is_stuck() -> bool:
    """Is there work that could be claimed while a worker of this machine has nothing to do?

    A moment of it is the time a bell takes; `ENGINE_STUCK_SECONDS` of it mean that the queue
    no longer hands out bells.
    """
    return sweep_runs() and busy_workers(socket.gethostname()) < settings.WORKERS
