"""The background tasks. A message says only that there is work; the worker finds which."""

import logging
import time
from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
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
from apps.evaluations.engine.shrink import can_shrink, rewrite_database, shrink_database
from apps.evaluations.engine.sweep import (
    has_work,
    is_elected,
    refresh_statistics,
    step_back,
    sweep_runs,
)
from apps.evaluations.engine.worker import Worker
from apps.evaluations.signals import history_purge, run_planned, swept
from apps.inference.stored_completions import purge_completions

PURGE_SHARE = 0.25  # of one core, at most, while a sweep follows the other

log = logging.getLogger(__name__)

IDLE_SWEEPS = 6  # as long as nothing is deleted, only one of so many looks for it
_purging = {"due_at": 0.0}
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


def sweep() -> None:
    """Show that this machine is there; on the one that is elected, sweep and purge for all.

    To sweep is to close what nobody closed, ring for what nobody works on, and purge what is
    deleted. The supervisor of every machine with workers calls this.
    """
    renew_machine(settings.WORKERS)
    if is_elected():
        try:
            _sweep_for_all()
        except BaseException:
            # It may be this machine that cannot: another is to try.
            step_back()
            raise
    connection.close_if_unusable_or_obsolete()


def _sweep_for_all() -> None:
    if wanted := sweep_runs():
        ring(wanted)
    refresh_statistics()
    _purge_where_due()
    _purge_history_now_and_then()
    swept.send(sender=None)


def _purge_where_due() -> None:
    """Purge in every sweep while there is something to, else in one of IDLE_SWEEPS."""
    if time.monotonic() < _purging["due_at"]:
        return
    seconds = PURGE_SHARE * settings.ENGINE_SWEEP_SECONDS
    removed = purge_runs(seconds=seconds)
    removed += purge_completions() + purge_files() + purge_datasets()
    # When all is gone: what is cut off before that would only be moved once more.
    removed = removed or shrink_database(seconds=seconds)
    pause = 0 if removed else (IDLE_SWEEPS - 0.5) * settings.ENGINE_SWEEP_SECONDS
    _purging["due_at"] = time.monotonic() + pause


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
    while count := shrink_database(seconds=1):
        yield "free pages of the file", count


def rewrite_file() -> None:
    """Write SQLite's file anew, so that it can shrink from now on. Raises OperationalError."""
    if not can_shrink():
        rewrite_database()


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
    return has_work() and busy_workers(settings.MACHINE_NAME) < settings.WORKERS
