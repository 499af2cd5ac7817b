"""A worker's dealings with the tables besides storing: claim, note a suspect, let go, sign off."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Greatest

from apps.clients.base import DENIED
from apps.evaluations.engine.assignments import Assignments, WorkerState
from apps.evaluations.engine.claims import Claimer
from apps.evaluations.engine.close import finish_run, is_denied
from apps.evaluations.engine.heartbeats import remove_heartbeat
from apps.evaluations.engine.pacer import Pacer
from apps.evaluations.engine.slot_shares import SlotShares
from apps.evaluations.engine.spending import BudgetKeeper, BudgetRequest, give_back_calls
from apps.evaluations.engine.store import HeldShard, store_spent
from apps.evaluations.models import Run, Shard
from apps.evaluations.targets import Spent
from apps.inference.slots import release_all


class Coordinator:
    """Answers a worker's polls; all its methods run in the coordinator's thread.

    So the loop never waits for the database, and no two of its statements race each other.
    """

    def __init__(self, worker: UUID) -> None:
        self.worker = worker
        self._slots = SlotShares(worker)
        self._claimer = Claimer(worker, self._slots)
        self._budget_keeper = BudgetKeeper()
        self._pacer = Pacer()

    def poll(self, state: WorkerState) -> Assignments:
        """Claim and share for the worker; an error half-way loses the claims until their lease.

        Claims come first: what is claimed decides how many slots and calls are wanted.
        """
        assignments = Assignments()
        self._slots.begin_poll(was_rung=state.was_rung)
        going = Run.objects.filter(state=Run.State.RUNNING).order_by("created_at", "id")
        running = dict(going.values_list("pk", "account_id"))
        assignments.ended_runs = state.capacity.keys() - running.keys()
        self._claimer.forget_all_but(state.capacity.keys())
        self._claimer.claim(state, running, assignments)
        self._slots.share(state, assignments)
        claimed = {pk for claim in assignments.claims for pk in claim.context.endpoints}
        assignments.permissions = self._pacer.answer(state.slots.keys(), claimed, state.reports)
        assignments.denied = {run_id: is_denied(run_id) for run_id in state.denied}
        assignments.allowances = self._budget_keeper.answer(state.budget_requests)
        assignments.is_waiting = self._slots.is_waiting
        return assignments

    def suspect(self, shard: Shard, position: int) -> None:
        """Note which item of a shard that kills its workers is alone in work now."""
        # Fenced: a worker that was frozen must not accuse an item of its successor's.
        ours = Shard.objects.filter(pk=shard.pk, lease_token=shard.lease_token)
        ours.update(suspect_position=position)

    def deny(self, run_id: UUID, words: str) -> None:
        """End a run whose first calls its model server all denied."""
        finish_run(run_id, Run.State.FAILED, DENIED, words)

    def release(self, unfinished: Iterable[tuple[HeldShard, Sequence[Spent]]]) -> None:
        """Give shards back unfinished, with what was spent on items that have no outcome.

        That was no death, so it is no attempt either.
        """
        for held, spent in unfinished:
            if spent:
                store_spent(held, spent)
            shard = held.shard
            # Fenced: what has passed to another worker meanwhile is left alone.
            Shard.objects.unfinished().filter(pk=shard.pk, lease_token=shard.lease_token).update(
                lease_token=None,
                lease_until=None,
                worker=None,
                suspect_position=None,
                attempts=Greatest(F("attempts") - 1, 0),
            )

    def leave(self, requests: Iterable[BudgetRequest] = ()) -> None:
        """Sign off: nothing is held and nothing in flight."""
        for request in requests:
            give_back_calls(request.run.pk, request.surplus)
        release_all(self.worker)
        remove_heartbeat(self.worker)
