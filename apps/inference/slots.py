"""Share an endpoint's concurrency among workers, by rows under leases."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from apps.inference.models import EndpointSlot, ModelEndpoint
from apps.leases import database_now, lease_end


@dataclass(frozen=True)
class Grant:
    """The calls that a worker may have in flight, and whether others wait for some of them."""

    slots: int
    others_wait: bool = False


NOTHING = Grant(0)


def rebalance(
    endpoint_id: UUID, worker: UUID, *, wanted: int, committed: int, gives_up: bool = True
) -> Grant:
    """Share the endpoint anew; return how many calls this worker may have in flight from now on.

    committed: how many it may come to have before it hears the answer. gives_up: whether it leaves
    to others what is more than its share. The sum of all grants never passes the endpoint's
    concurrency: a worker only gets what the others do not hold, and what it is to give up stays on
    its row until it says that it is committed to less. With nothing wanted and committed the row
    goes.
    """
    with transaction.atomic():
        # Locked until the commit: two workers must not both take the last slots. It is the only
        # row that is locked here, so the order in which workers come to it does not matter.
        endpoint = ModelEndpoint.objects.select_for_update().filter(pk=endpoint_id).first()
        if endpoint is None:
            return NOTHING
        if not wanted and not committed:
            endpoint.slots.filter(worker=worker).delete()
            return NOTHING
        # A dead worker's slots are free when its lease is out; until then its calls may be in
        # flight still.
        now = database_now()
        slots = {slot.worker: slot for slot in endpoint.slots.filter(lease_until__gte=now)}
        ours = slots.pop(worker, None)
        free = max(0, endpoint.concurrency - sum(slot.granted for slot in slots.values()))
        wishes = {worker: wanted, **{other: slot.wanted for other, slot in slots.items()}}
        shares = fair_share(endpoint.concurrency, wishes)
        share = shares[worker]
        # To pass slots on takes a while in which nobody uses them: see slot_shares for how long a
        # worker keeps them. What it does not want itself it never keeps.
        if ours is not None and not gives_up:
            share = max(share, min(wanted, ours.granted))
        # On the row stands what may be in flight, which is more than the share until the worker
        # has said that it holds less; it is told the share.
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
    """Give back all slots of a worker, at every endpoint."""
    EndpointSlot.objects.filter(worker=worker).delete()


def drop_expired(now: datetime) -> None:
    """Remove the expired slots of dead workers."""
    EndpointSlot.objects.filter(lease_until__lt=now).delete()
