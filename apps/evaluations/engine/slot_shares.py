"""Keep a worker's share of the slots at each endpoint: request, await, yield and return them."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from apps import bells
from apps.evaluations.engine.assignments import Assignments, WorkerState
from apps.inference.slots import rebalance

REBALANCE_SECONDS = 1.0  # without a bell: who is refused slots, or gives some up, rings
HANDOVER_SECONDS = 0.1  # while slots pass from one worker to another, which neither can use
# Before a worker gives slots up to another, since they stand idle on the way and a run that is
# over by then has gained nothing.
YIELD_SLOTS_AFTER_SECONDS = 0.1


@dataclass(frozen=True)
class SlotRequest:
    """The last request for slots at an endpoint: its moment, its numbers, and the answer."""

    at: float
    wanted: int
    committed: int
    granted: int
    others_wait: bool

    def is_due(self, wanted: int, committed: int) -> bool:
        """Return whether to ask again: for a grown wish that had been granted, or in time."""
        if not wanted or self.wanted <= self.granted < wanted:
            return True
        # Somebody waits for what we were told to give up, or will be, or we for what another does.
        will_be_told = self.others_wait and self.granted >= self.committed
        waits = self.granted == 0 or committed < self.committed or will_be_told
        pause = HANDOVER_SECONDS if waits else REBALANCE_SECONDS
        return time.monotonic() - self.at >= pause


class SlotShares:
    """Keeps one worker's slots at all endpoints that its runs ask; for the coordinator's thread.

    is_waiting: in this poll a shard was left to others for want of a slot.
    """

    def __init__(self, worker: UUID) -> None:
        self._worker = worker
        self._requests: dict[UUID, SlotRequest] = {}
        self._wishes: dict[UUID, int] = {}  # calls wanted at endpoints that have no slot for us
        self._pressed_since: dict[UUID, float] = {}  # when others began to want some of ours
        self._to_look_at: set[UUID] = set()  # endpoints where a bell may tell of a change

    @property
    def is_waiting(self) -> bool:
        return bool(self._wishes)

    def begin_poll(self, *, was_rung: bool) -> None:
        self._wishes.clear()
        if was_rung:
            self._to_look_at = set(self._requests)

    def _is_due(self, endpoint_id: UUID, wanted: int, committed: int) -> bool:
        request = self._requests.get(endpoint_id)
        if request is None or endpoint_id in self._to_look_at:
            return True
        return request.is_due(wanted, committed)

    def has_all(self, endpoints: Iterable[UUID]) -> bool:
        """Return whether this worker holds a slot at every endpoint, as far as it knows."""
        return all(pk in self._requests and self._requests[pk].granted for pk in endpoints)

    def holds_all(self, endpoints: Iterable[UUID], wanted: int, assignments: Assignments) -> bool:
        """Return whether this worker holds a slot at every endpoint, or gets one at once.

        A shard whose items would have to wait for slots is left to a worker that has them:
        claimed here it would lie until its turn comes, under a lease that nobody else can take.
        """
        for endpoint_id in endpoints:
            request = self._requests.get(endpoint_id)
            was_refused = request is not None and not request.granted
            if request is None or (was_refused and self._is_due(endpoint_id, wanted, 0)):
                request = self._request(assignments, endpoint_id, wanted, 0)
            if not request.granted:
                if not was_refused:
                    bells.ring()  # whoever has them all hears that another waits
                self._wishes[endpoint_id] = wanted
                return False
        return True

    def share(self, state: WorkerState, assignments: Assignments) -> None:
        """Ask for slots at once where there may be more to have, else once in a while.

        Slots that an earlier poll got, and whose grant did not reach the loop since that poll
        failed, are asked for with nothing wanted, and so go back.
        """
        slots = dict.fromkeys(self._requests, (0, 0)) | state.slots
        more = [*self._wishes.items()]
        for claim in assignments.claims:
            more += [(endpoint_id, len(claim.todo)) for endpoint_id in claim.context.endpoints]
        for endpoint_id, count in more:
            wanted, committed = slots.get(endpoint_id, (0, 0))
            slots[endpoint_id] = (wanted + count, committed)
        for endpoint_id, (wanted, committed) in slots.items():
            if self._is_due(endpoint_id, wanted, committed):
                self._request(assignments, endpoint_id, wanted, committed)

    def _request(
        self, assignments: Assignments, endpoint_id: UUID, wanted: int, committed: int
    ) -> SlotRequest:
        now = time.monotonic()
        pressed_since = self._pressed_since.get(endpoint_id, now)
        grant = rebalance(
            endpoint_id,
            self._worker,
            wanted=wanted,
            committed=committed,
            gives_up=now - pressed_since >= YIELD_SLOTS_AFTER_SECONDS,
        )
        if grant.others_wait:
            self._pressed_since[endpoint_id] = pressed_since
        else:
            self._pressed_since.pop(endpoint_id, None)
        self._to_look_at.discard(endpoint_id)
        before = self._requests.get(endpoint_id)
        if grant.gave_up or (before and before.others_wait and not wanted and not committed):
            bells.ring()  # what they wait for is there
        request = SlotRequest(now, wanted, committed, grant.slots, grant.others_wait)
        if wanted or committed:
            self._requests[endpoint_id] = request
            assignments.grants[endpoint_id] = grant.slots
        else:
            self._requests.pop(endpoint_id, None)
            assignments.grants.pop(endpoint_id, None)
            assignments.left.add(endpoint_id)
        return request
