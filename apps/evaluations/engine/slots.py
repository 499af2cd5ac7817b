"""Share an endpoint's concurrency among workers: a table under leases, and a limiter in memory."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from apps.clients import Limiter
from apps.evaluations.models import EndpointSlot, ModelEndpoint
from apps.leases import database_now, lease_end


@dataclass(frozen=True)
class Grant:
    """How many calls a worker may have in flight, and whether others wait for some of that."""

    places: int
    others_wait: bool = False


NOTHING = Grant(0)


def rebalance(
    endpoint_id: UUID, worker: UUID, *, wanted: int, committed: int, gives_up: bool = True
) -> Grant:
    """How many calls this worker may have in flight at the endpoint from now on.

    committed: how many it may come to have before it hears the answer. gives_up: does it leave to
    others what is more than its share? The endpoint's row is locked meanwhile, so that the sum of
    all grants never passes its concurrency: a worker only gets what the others do not hold, and
    what it is to give up stays on its row until it says that it is committed to less. With
    nothing wanted and committed the row goes.
    """
    with transaction.atomic():
        endpoint = ModelEndpoint.objects.select_for_update().filter(pk=endpoint_id).first()
        if endpoint is None:
            return NOTHING
        if not wanted and not committed:
            endpoint.slots.filter(worker=worker).delete()
            return NOTHING
        now = database_now()
        slots = {slot.worker: slot for slot in endpoint.slots.filter(lease_until__gte=now)}
        ours = slots.pop(worker, None)
        free = max(0, endpoint.concurrency - sum(slot.granted for slot in slots.values()))
        wishes = {worker: wanted, **{other: slot.wanted for other, slot in slots.items()}}
        shares = fair_share(endpoint.concurrency, wishes)
        share = shares[worker]
        if ours is not None and not gives_up:
            share = max(share, min(wanted, ours.granted))
        granted = min(max(share, committed), free)
        EndpointSlot.objects.update_or_create(
            endpoint=endpoint,
            worker=worker,
            defaults={"wanted": wanted, "granted": granted, "lease_until": lease_end(now)},
        )
    others_wait = any(slot.granted < shares[other] for other, slot in slots.items())
    return Grant(min(share, granted), others_wait)


def fair_share(total: int, wanted: dict[UUID, int]) -> dict[UUID, int]:
    """Split `total` so that nobody gets more than wanted and the smallest grant is largest.

    What does not divide goes one by one to the workers first in the order of their ids.
    """
    shares = dict.fromkeys(wanted, 0)
    left = total
    hungry = sorted(worker for worker, count in wanted.items() if count > 0)
    while hungry and left >= len(hungry):
        each = left // len(hungry)
        for worker in hungry:
            more = min(each, wanted[worker] - shares[worker])
            shares[worker] += more
            left -= more
        hungry = [worker for worker in hungry if shares[worker] < wanted[worker]]
    for worker in hungry[:left]:
        shares[worker] += 1
    return shares


def release_all(worker: UUID) -> None:
    EndpointSlot.objects.filter(worker=worker).delete()


def drop_expired(now: datetime) -> None:
    """Remove what dead workers left; it counted for nothing any more."""
    EndpointSlot.objects.filter(lease_until__lt=now).delete()


class Lane:
    """The places that this worker holds at one endpoint; those who wait take turns by run.

    Belongs to one event loop. A smaller grant takes effect as calls end.
    """

    def __init__(self, granted: int) -> None:
        self.granted = granted
        self.in_use = 0
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def committed(self) -> int:
        """The most calls that may be in flight before the next `resize`."""
        return max(self.granted, self.in_use)

    @property
    def demand(self) -> int:
        """How many call or wait to; those who were cancelled while waiting are gone."""
        waiting = (place for queue in self._waiting.values() for place in queue)
        return self.in_use + sum(not place.done() for place in waiting)

    @property
    def is_idle(self) -> bool:
        return self.demand == 0

    def resize(self, granted: int) -> None:
        self.granted = granted
        self._admit()

    async def acquire(self, turn: Hashable) -> None:
        if self.in_use < self.granted and not self._waiting:
            self.in_use += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(turn, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.release()
            raise

    def release(self) -> None:
        self.in_use -= 1
        self._admit()

    def dismiss(self) -> None:
        """Cancel all who wait."""
        for queue in self._waiting.values():
            for place in queue:
                place.cancel()
        self._waiting.clear()

    def _admit(self) -> None:
        while self.in_use < self.granted and self._waiting:
            turn, queue = self._waiting.popitem(last=False)
            while queue:
                place = queue.popleft()
                if not place.done():
                    place.set_result(None)
                    self.in_use += 1
                    break
            if queue:
                self._waiting[turn] = queue


class Turn(Limiter):
    """A lane as one run sees it."""

    def __init__(self, lane: Lane, turn: Hashable) -> None:
        self._lane = lane
        self._turn = turn

    async def acquire(self) -> None:
        await self._lane.acquire(self._turn)

    def release(self) -> None:
        self._lane.release()
