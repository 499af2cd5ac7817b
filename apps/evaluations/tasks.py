"""The doorbell: a message means only that there is work, and the work finds itself."""

import logging
import socket

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django_q.brokers import get_broker
from django_q.tasks import async_task
from redis.exceptions import RedisError

from apps.datasets.files import purge_files
from apps.datasets.fills import purge_datasets
from apps.evaluations.engine.desk import beat_machine, busy_workers, sweep_runs
from apps.evaluations.engine.purge import purge_runs
from apps.evaluations.engine.work import Worker

log = logging.getLogger(__name__)


def ring() -> None:
    """Call one worker, unless as many calls as there are workers wait already.

    A bell that cannot be rung is logged and no more: the sweep rings again.
    """
    try:
        if get_broker().queue_size() < settings.WORKERS:
            async_task("apps.evaluations.tasks.work", task_name="work")
    except (RedisError, DatabaseError):
        log.exception("The queue cannot be reached; the work waits for the sweep")


def ring_on_commit() -> None:
    transaction.on_commit(ring)


def work() -> None:
    """One slice of whatever there is to do. The queue's workers run this."""
    is_more = Worker().run()
    if is_more:
        ring()


def sweep() -> None:
    """Close what nobody closed, ring for what nobody works on, purge what is deleted.

    The supervisor of every machine with workers calls this, which also shows that it is there.
    """
    beat_machine(settings.WORKERS)
    if sweep_runs():
        ring()
    purge_runs()
    purge_files()
    purge_datasets()
    connection.close_if_unusable_or_obsolete()


def is_stuck() -> bool:
    """Is there work that could be claimed while a worker of this machine has nothing to do?

    A moment of it is the time a bell takes; `ENGINE_STUCK_SECONDS` of it mean that the queue
    no longer hands out bells.
    """
    return sweep_runs() and busy_workers(socket.gethostname()) < settings.WORKERS
