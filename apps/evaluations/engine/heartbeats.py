"""Show who is alive: prolong a worker's leases, and say which machines keep workers ready."""

import os
from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from apps.evaluations.models import MachineHeartbeat, Shard, WorkerHeartbeat
from apps.inference.models import EndpointSlot
from apps.leases import clock, database_now, lease_end, lease_end_by_clock


def renew_leases(worker: UUID, held: Collection[UUID], endpoints: Collection[UUID]) -> None:
    """Prolong these shards and the slots at these endpoints, and say that the worker lives.

    What the tables give the worker but is not at work was lost on its way to the loop: its lease
    must run out, so it is not prolonged.
    """
    until = lease_end(database_now())
    with transaction.atomic():
        # Locked in the writer's order, or each could wait for the other.
        shards = Shard.objects.held_by(worker).filter(pk__in=held)
        locked = shards.order_by("run_id", "pk").select_for_update()
        ours = list(locked.values_list("pk", flat=True))
        Shard.objects.filter(pk__in=ours).update(lease_until=until)
    # Slots whose lease has run out may be granted to others by now, and stay lost. What the time
    # is, is asked by the very statement: this process may be frozen before it, for any while.
    slots = EndpointSlot.objects.filter(worker=worker, endpoint__in=endpoints)
    slots.filter(lease_until__gte=clock()).update(lease_until=until)
    WorkerHeartbeat.objects.update_or_create(
        worker=worker,
        defaults={"host": settings.MACHINE_NAME, "pid": os.getpid(), "seen_until": until},
    )


def remove_heartbeat(worker: UUID) -> None:
    WorkerHeartbeat.objects.filter(worker=worker)._raw_delete("default")


def drop_old_heartbeats(now: Any) -> None:
    """Remove those that ended an hour before now; until then they tell which machine died.

    now: a time or the database's clock.
    """
    old = WorkerHeartbeat.objects.filter(seen_until__lt=now - timedelta(hours=1))
    old._raw_delete("default")


def renew_machine(workers: int) -> None:
    """Say that this machine keeps so many workers ready."""
    seen = {"workers": workers, "seen_until": lease_end_by_clock()}
    machine = MachineHeartbeat.objects.filter(host=settings.MACHINE_NAME)
    if not machine.update(**seen):
        MachineHeartbeat.objects.update_or_create(host=settings.MACHINE_NAME, defaults=seen)


def ready_workers() -> int:
    """Count the workers that are kept ready, on all machines seen alive."""
    seen = MachineHeartbeat.objects.filter(seen_until__gte=clock())
    return seen.aggregate(count=Sum("workers", default=0))["count"]


def busy_workers(host: str = "") -> int:
    """Count the tasks at work, on one machine or on all."""
    alive = WorkerHeartbeat.objects.filter(seen_until__gte=clock())
    return (alive.filter(host=host) if host else alive).count()
