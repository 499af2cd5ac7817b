"""The background tasks. A message says only that there is work; the worker finds which."""

import logging
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.dispatch import receiver
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.tasks import async_task

from apps import bells
from apps.datasets.bulk_insert import purge_datasets
from apps.datasets.stored_files import purge_files
from apps.evaluations.engine.heartbeats import busy_workers, ready_workers, renew_machine
from apps.evaluations.engine.process import settle_garbage_collector
from apps.evaluations.engine.purge import purge_runs, purge_tasks
from apps.evaluations.engine.sweep import sweep_runs
from apps.evaluations.engine.worker import Worker
from apps.evaluations.models import Result, Run, Shard
from apps.evaluations.signals import history_purge, run_finished, run_planned, swept
from apps.inference.stored_completions import purge_completions

LARGE_RUN = 10_000  # results
PURGE_SHARE = 0.25  # of one core, at most, while a sweep follows the other

log = logging.getLogger(__name__)

HISTORY_SECONDS = 3600
_history = {"due_at": 0.0}


def ring(wanted: int = 1) -> None:
    """Wake the workers that wait, and call those that idle: as many as there is work for.

    A bell that cannot be rung is logged and no more: the sweep rings again.
    """
    call_worker("apps.evaluations.tasks.work", wanted)
    bells.ring()


def call_worker(task: str, wanted: int = 1) -> None:
    """Let idle workers run a task, given by its dotted path, unless enough messages wait already.

    One is called whether any idles or not, for one that seems busy may be about to end.
    """
    try:
        broker = get_broker()
        idle = _idle_workers() if wanted > 1 else 1
        places = max(idle, settings.WORKERS) - broker.queue_size()
        for _ in range(min(max(1, min(wanted, idle)), places)):
            async_task(task, task_name=task.rpartition(".")[2], broker=broker)
    except bells.SERVICE_ERRORS:
        log.exception("The queue cannot be reached; it waits for the sweep")


def _idle_workers() -> int:
    return ready_workers() - busy_workers()


@receiver(run_planned)
def call_for_shards(shard_count: int, **_: object) -> None:
    """Call a worker for each shard of a run but one, which falls to the worker that planned it."""
    if shard_count > 1:
        ring(shard_count - 1)


def ring_on_commit() -> None:
    transaction.on_commit(ring)


def work() -> None:
    """Work for one slice of time on whatever there is. The queue's workers run this."""
    settle_garbage_collector()
    has_more = Worker().run()
    if has_more:
        ring()


@receiver(run_finished)
def refresh_statistics(run_id: UUID, **_: object) -> None:
    """Refresh PostgreSQL's statistics after a large run, before its pages are asked for.

    By itself it does so a minute later; until then it plans for a run of a hundred results, and
    reads whole tables for a page.
    """
    if connection.vendor != "postgresql":
        return
    try:
        total = Run.objects.filter(pk=run_id).values_list("total_count", flat=True).first()
        if total is not None and total >= LARGE_RUN:
            tables = ", ".join(model._meta.db_table for model in (Result, Shard))
            with connection.cursor() as cursor:
                cursor.execute(f"ANALYZE (SKIP_LOCKED) {tables}")
    except DatabaseError:
        log.exception("The statistics of the results could not be refreshed")


def sweep() -> None:
    """Close what nobody closed, ring for what nobody works on, purge what is deleted.

    The supervisor of every machine with workers calls this, which also shows that it is there.
    """
    renew_machine(settings.WORKERS)
    if sweep_runs():
        ring()
    purge_runs(seconds=PURGE_SHARE * settings.ENGINE_SWEEP_SECONDS)
    purge_completions()
    _purge_history_now_and_then()
    purge_files()
    purge_datasets()
    swept.send(sender=None)
    connection.close_if_unusable_or_obsolete()


def _purge_history_now_and_then() -> None:
    """Purge history every HISTORY_SECONDS in this process, for it takes a long query."""
    if time.monotonic() >= _history["due_at"]:
        pause = 0 if purge_history() else HISTORY_SECONDS
        _history["due_at"] = time.monotonic() + pause


def purge_now() -> Iterator[tuple[str, int]]:
    """Remove all that is deleted; yield after each piece what it was of, and how many rows went."""
    purges = {
        "runs": lambda: purge_runs(seconds=1),
        "stored completions": purge_completions,
        "files": purge_files,
        "datasets": purge_datasets,
    }
    for noun, purge in purges.items():
        while count := purge():
            yield noun, count


def purge_history() -> bool:
    """Remove some history older than HISTORY_DAYS; return whether there may be more."""
    before = timezone.now() - timedelta(days=settings.HISTORY_DAYS)
    answers = history_purge.send(sender=None, before=before)
    return any([purge_tasks(before), *(has_more for _, has_more in answers)])


def is_stuck() -> bool:
    """Tell whether work could be claimed while a worker of this machine has nothing to do.

    A moment of it is the time a bell takes; `ENGINE_STUCK_SECONDS` of it mean that the queue
    no longer hands out bells.
    """
    return sweep_runs() and busy_workers(socket.gethostname()) < settings.WORKERS
