"""The keeper's thread, which prolongs a worker's leases, and the clock of how long they last."""

import logging
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from apps.evaluations.engine.heartbeats import renew_leases
from apps.leases import close_connection

log = logging.getLogger(__name__)

DRAIN_AFTER_SLICE = 60  # calls in flight at a slice's end get this long
# ... and so long items with an answer, whose judges' server takes no call for now. The queue kills
# a task after 300 s (Q_CLUSTER).
DRAIN_HELD_UP = 150
# Of a lease's time. In the rest calls are cut, so that none is in flight when others take the
# slots: the lease is the database's clock, this one ours, and a cut takes a moment.
LEASE_SHARE = 0.9
PATIENCE = 0.5  # of ENGINE_RENEW_SECONDS the keeper waits for the coordinator's thread


class Keeper:
    """Prolongs what `held` and `endpoints` name; a thread, since grading keeps the loop busy.

    in_coordinator: runs a function in the coordinator's thread, whose connection is used where
    that thread is soon free for it; else the keeper opens one of its own, for once.
    """

    def __init__(
        self,
        worker: UUID,
        held: Callable[[], Collection[UUID]],
        endpoints: Callable[[], Collection[UUID]],
        in_coordinator: Callable[[Callable[[], None]], "Future[None]"],
    ) -> None:
        self._worker = worker
        self._held = held
        self._endpoints = endpoints
        self._in_coordinator = in_coordinator
        self.began = time.monotonic()
        self._set_cut_off(self.began)
        self._was_cut_off = False
        self._lasts = settings.ENGINE_SLICE_SECONDS + DRAIN_AFTER_SLICE
        self._is_left = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def start(self) -> None:
        """Say that the worker is there, and keep its leases from now on."""
        self._in_coordinator(lambda: renew_leases(self._worker, [], [])).result()
        self._thread.start()

    def stop(self) -> None:
        self._is_left.set()
        if self._thread.is_alive():
            self._thread.join()

    def go_on(self) -> None:
        """Renew for longer than usual after a slice: calls are held up, and the loop is alive."""
        self._lasts = settings.ENGINE_SLICE_SECONDS + DRAIN_HELD_UP

    def is_cut_off(self) -> bool:
        """Return whether the leases are so old that others may soon take work and slots.

        Once so, for ever: a process that was frozen must not go on where it was when it thaws,
        even if its keeper renews before anybody looks.
        """
        if time.monotonic() > self.cut_off_at:
            self._was_cut_off = True
        return self._was_cut_off

    def _set_cut_off(self, renewed_at: float) -> None:
        """Say by when of the monotonic clock a worker that does not renew has to let go."""
        self.cut_off_at = renewed_at + LEASE_SHARE * settings.ENGINE_LEASE_SECONDS

    def _keep(self) -> None:
        # Not for ever: a loop that hangs must lose its shards to others some time.
        while not self._is_left.wait(settings.ENGINE_RENEW_SECONDS):
            if time.monotonic() - self.began > self._lasts:
                break
            # Before the statement: the lease counts from when it was asked for, not answered.
            began = time.monotonic()
            if self.is_cut_off():
                break
            try:
                self._renew_somewhere()
                self._set_cut_off(began)
            except DatabaseError:
                log.exception("Leases could not be prolonged; trying again")
                self._in_coordinator(close_connection)

    def _renew_somewhere(self) -> None:
        renewing = self._in_coordinator(self._renew)
        try:
            renewing.result(PATIENCE * settings.ENGINE_RENEW_SECONDS)
        except TimeoutError:
            # That thread is busy, or waits for the database. What it does later does no harm.
            renewing.cancel()
            try:
                self._renew()
            finally:
                connection.close()

    def _renew(self) -> None:
        renew_leases(self._worker, self._held(), self._endpoints())
