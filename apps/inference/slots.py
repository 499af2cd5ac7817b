"""Share an endpoint's concurrency among workers, by rows under leases."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.inference.models import EndpointSlot, ModelEndpoint
from apps.leases import clock, clock_value, database_now, lease_end


@dataclass(frozen=True)
class Grant:
    """The calls that a worker may have in flight, and whether others wait for some of them.

    gave_up: some that others wait for have just become free.
    """

    slots: int
    others_wait: bool = False
    gave_up: bool = False


NOTHING = Grant(0)
SLOT_FIELDS = ("id", "worker", "wanted", "granted", "lease_until")


@dataclass(frozen=True)
class _Holdings:
    """The slots at an endpoint under a lease: ours, where we have a row, and those of others.

    concurrency: the endpoint's, or less where it refused as many.
    """

    concurrency: int
    ours: EndpointSlot | None
    others: dict[UUID, EndpointSlot]

    @property
    def free(self) -> int:
        """The slots that the others do not hold."""
        return max(0, self.concurrency - sum(slot.granted for slot in self.others.values()))


@dataclass(frozen=True)
class _Split:
    """The slots that a worker is told to keep to, those on its row, and whether others wait."""

    share: int
    granted: int
    others_wait: bool


def rebalance(
    endpoint_id: UUID, worker: UUID, *, wanted: int, committed: int, gives_up: bool = True
) -> Grant:
    """Share the endpoint anew; return how many calls this worker may have in flight from now on.

    committed: how many it may come to have before it hears the answer. gives_up: whether it leaves
    to others what is more than its share. The sum of all grants never passes the endpoint's
    concurrency: a worker only gets what the others do not hold, and what it is to give up stays on
    its row until it says that it is committed to less. With nothing wanted and committed the row
    goes.

    Only who gets more locks the endpoint, since two must not both take the last slots. Who keeps
    what it has, or gives some up, harms nobody, and reads or writes no row but its own.
    """
    if not wanted and not committed:
        EndpointSlot.objects.filter(endpoint=endpoint_id, worker=worker)._raw_delete("default")
        return NOTHING
    held = _held(endpoint_id, worker)
    if held is not None and held.ours is not None:
        ours = held.ours
        split = _split(held, worker, wanted, committed, gives_up)
        if split.granted <= ours.granted and _keep_to(ours, split, _told(wanted, held)):
            gave_up = split.others_wait and split.granted < ours.granted
            return Grant(min(split.share, split.granted), split.others_wait, gave_up)
    return _take(endpoint_id, worker, wanted, committed, gives_up)


def _told(wanted: int, held: _Holdings) -> int:
    """The wish as others must know it: nobody gets more than all, so more makes no difference.

    A worker with much to do then has no reason to write at all while its wish changes.
    """
    return min(wanted, held.concurrency)


def _keep_to(ours: EndpointSlot, split: _Split, wanted: int) -> bool:
    """Note that we keep to what we have or to less; False where it is no longer ours."""
    if (ours.granted, ours.wanted) == (split.granted, wanted):
        return True
    # Its lease may have run out since we read it: then what is free may be granted to others.
    kept = EndpointSlot.objects.filter(pk=ours.pk, lease_until__gte=clock())
    return bool(kept.update(granted=split.granted, wanted=wanted))


def _take(endpoint_id: UUID, worker: UUID, wanted: int, committed: int, gives_up: bool) -> Grant:
    with transaction.atomic():
        # Locked until the commit: two workers must not both take the last slots. It is the only
        # row that is locked here, so the order in which workers come to it does not matter.
        if not ModelEndpoint.objects.select_for_update().filter(pk=endpoint_id).exists():
            return NOTHING
        held = _held(endpoint_id, worker)
        assert held is not None  # we hold its lock
        split = _split(held, worker, wanted, committed, gives_up)
        EndpointSlot.objects.update_or_create(
            endpoint_id=endpoint_id,
            worker=worker,
            defaults={
                "wanted": _told(wanted, held),
                "granted": split.granted,
                "lease_until": lease_end(database_now()),
            },
        )
    return Grant(min(split.share, split.granted), split.others_wait)


def _held(endpoint_id: UUID, worker: UUID) -> _Holdings | None:
    """Read who holds what, by one statement; None where the endpoint is gone.

    A dead worker's slots are free when its lease is out; until then its calls may be in flight
    still.
    """
    rows = list(
        ModelEndpoint.objects.filter(pk=endpoint_id)
        .order_by()
        .values_list(
            *("concurrency", "pace__concurrency"),
            *(f"slots__{name}" for name in SLOT_FIELDS),
            clock_value(),
        )
    )
    if not rows:
        return None
    alive: dict[UUID, EndpointSlot] = {}
    for *_, pk, holder, wanted, granted, until, now in rows:
        if pk is not None and until >= now:
            alive[holder] = EndpointSlot(
                id=pk, worker=holder, wanted=wanted, granted=granted, lease_until=until
            )
    concurrency, learned = rows[0][:2]
    most = concurrency if learned is None else min(concurrency, learned)
    return _Holdings(most, alive.pop(worker, None), alive)


def _split(held: _Holdings, worker: UUID, wanted: int, committed: int, gives_up: bool) -> _Split:
    wishes = {worker: wanted, **{other: slot.wanted for other, slot in held.others.items()}}
    shares = fair_share(held.concurrency, wishes)
    share = shares[worker]
    # To pass slots on takes a while in which nobody uses them: see slot_shares for how long a
    # worker keeps them. What it does not want itself it never keeps.
    if held.ours is not None and not gives_up:
        share = max(share, min(wanted, held.ours.granted))
    # On the row stands what may be in flight, which is more than the share until the worker has
    # said that it holds less; it is told the share.
    granted = min(max(share, committed), held.free)
    waiting = any(slot.granted < shares[other] for other, slot in held.others.items())
    return _Split(share, granted, waiting)


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
    EndpointSlot.objects.filter(worker=worker)._raw_delete("default")


def drop_expired(now: Any) -> None:
    """Remove the slots of dead workers that have run out by now, a time or the database's clock."""
    EndpointSlot.objects.filter(lease_until__lt=now)._raw_delete("default")
