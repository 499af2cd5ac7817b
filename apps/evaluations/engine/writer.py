"""Store what is ready, while the database goes away and comes back and odd outcomes turn up."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connection

from apps.evaluations.engine.close import close_run
from apps.evaluations.engine.store import Batch, HeldShard, Outcome, store, transactions
from apps.evaluations.models import Result, Run
from apps.grading.graders.base import Fault
from apps.inference.learned_quirks import Learned, remember

log = logging.getLogger(__name__)

UNSTORABLE = "not_storable"


class Writer:
    """A worker's storing; `store` runs in the writer's thread and raises nothing.

    is_cut_off: whether the leases may have passed to others, so that trying on is useless.
    """

    def __init__(self, is_cut_off: Callable[[], bool]) -> None:
        self._is_cut_off = is_cut_off

    def store(
        self, pairs: Iterable[tuple[HeldShard, Outcome]], learned: Collection[Learned] = ()
    ) -> None:
        """Store outcomes, and before them what was learned of model servers by them.

        Before, so that whoever starts a run after this one finds it known.
        """
        if learned:
            _remember(learned)
        for batches in transactions(pairs):
            self._store(batches)
            for batch in batches:
                if not batch.held.is_lost:
                    _close(batch)

    def _store(self, batches: Sequence[Batch]) -> None:
        while True:
            try:
                store(batches)
            except (OperationalError, InterfaceError):
                # The database is away; what was asked of models is not thrown away for that.
                log.exception("Results cannot be stored; trying again")
                connection.close()
            except Exception:
                log.exception("A batch of results is refused; each goes alone")
                self._store_apart(batches)
                return
            else:
                return
            # For as long as the leases last: then the items are worked on by others, and stored.
            if self._is_cut_off():
                for batch in batches:
                    batch.held.is_lost = True
                return
            time.sleep(settings.ENGINE_FLUSH_SECONDS)

    def _store_apart(self, batches: Sequence[Batch]) -> None:
        """Among outcomes that cannot be stored together, find the one that never can."""
        alone = [Batch(batch.held, [outcome]) for batch in batches for outcome in batch.outcomes]
        if len(alone) > 1:
            for one in alone:
                self._store([one])
            return
        (batch,) = alone
        (outcome,) = batch.outcomes
        if outcome.fault is not None and outcome.fault.code == UNSTORABLE:
            # Not even the fault can be stored, so it is not the outcome that is at fault. Whoever
            # claims the shard next tries again.
            batch.held.is_lost = True
            return
        fault = Fault(UNSTORABLE, "What came of this item cannot be stored; the log says why.")
        self._store([Batch(batch.held, [outcome.errored_by(fault)])])


def _remember(learned: Collection[Learned]) -> None:
    try:
        remember(learned)
    except DatabaseError:
        log.exception("What was learned of model servers is not kept; it is learned again")
        connection.close()


def _close(batch: Batch) -> None:
    """End the run where this batch was its last, or one that it may not survive."""
    # Not in the transaction that stored: it holds the run's row for share, as others who store do,
    # and two that ended the run there would wait for each other. Who dies in between leaves the
    # run to the sweep.
    held = batch.held
    may_fail = held.run.on_error == Run.OnError.FAIL and held.progress.states[Result.State.ERRORED]
    if held.progress.done == held.size or may_fail:
        try:
            close_run(held.run.pk)
        except DatabaseError:
            log.exception("Run %s could not be closed; the sweep does it", held.run.pk)
            connection.close()
