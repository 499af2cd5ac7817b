"""`manage.py qcluster`: django-q2's cluster, ending when one of its processes was killed.

A process that dies of a signal may hold the lock of a queue that it shares with the others; a
worker that waits for work does. django-q2 puts another in its place, and that cluster looks alive
and never works again. This one lets its other workers drain and ends; the supervisor starts a new
one. Recycled and timed-out workers do not count: they exit, or are replaced while they live.
"""

import sys
import time
from multiprocessing import Process
from typing import Any

from django_q import cluster
from django_q.management.commands import qcluster

from evalplatform import lifeline


class Sentinel(cluster.Sentinel):  # type: ignore[misc]  # django-q2 has no types
    def reincarnate(self, process: Process) -> None:
        code = process.exitcode or 0  # None while it lives
        if code >= 0:
            super().reincarnate(process)
            return
        cluster.logger.critical("A process of the cluster died of signal %d", -code)
        # This makes workers drain, and limits how long they may.
        lifeline.ask_for_replacement()
        while any(worker.is_alive() and worker.timer.value > 0 for worker in self.pool):
            time.sleep(0.1)
        # django-q2's own stop would wait for idle workers, which may wait for that lock.
        sys.exit(1)


class Command(qcluster.Command):  # type: ignore[misc]  # as above
    # They look at the code, which `make lint` has them do, and would load every face.
    requires_system_checks = ()

    def handle(self, *arguments: Any, **options: Any) -> None:
        cluster.Sentinel = Sentinel
        super().handle(*arguments, **options)
