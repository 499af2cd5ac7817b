"""The signs of life of tasks at work and of machines that keep workers; who sweeps for all."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.leases import clock, lease_end_by_clock


class WorkerHeartbeat(models.Model):
    """A task that works, seen alive a moment ago; what is missing here is dead or idle."""

    worker = models.UUIDField(primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField(default=timezone.now)
    seen_until = models.DateTimeField()

    class Meta:
        verbose_name = "task at work"
        verbose_name_plural = "tasks at work"
        ordering = ("host", "pid")

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class MachineHeartbeat(models.Model):
    """A machine whose supervisor keeps workers ready, seen alive a moment ago."""

    host = models.CharField(primary_key=True, max_length=255)
    workers = models.PositiveIntegerField()
    seen_until = models.DateTimeField()

    class Meta:
        verbose_name = "machine with workers"
        verbose_name_plural = "machines with workers"
        ordering = ("host",)

    def __str__(self) -> str:
        return self.host


class UpkeepLeaseQuerySet(models.QuerySet["UpkeepLease"]):
    def take(self, machine: str) -> bool:
        """Take the lease or prolong it; False while another machine has it."""
        ours_or_free = Q(machine=machine) | Q(lease_until__lt=clock())
        until = lease_end_by_clock()
        if self.filter(ours_or_free, pk=UpkeepLease.ONLY).update(
            machine=machine, lease_until=until
        ):
            return True
        if self.exists():
            return False
        # Before the first sweep of all. Of two that add it at once, one does.
        first = self.model(pk=UpkeepLease.ONLY, machine=machine, lease_until=until)
        self.bulk_create([first], ignore_conflicts=True)
        return self.filter(machine=machine).exists()

    def give_up(self, machine: str) -> None:
        self.filter(machine=machine).update(lease_until=clock())


class UpkeepLease(models.Model):
    """The machine that sweeps and purges for all of them, while it lives; there is one row.

    Two that believe to have it do no harm: all that they do may be done twice.
    """

    ONLY = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY)
    machine = models.CharField(max_length=255)
    lease_until = models.DateTimeField()

    objects = UpkeepLeaseQuerySet.as_manager()

    class Meta:
        verbose_name = "upkeep"
        verbose_name_plural = "upkeep"
        ordering = ("id",)

    def __str__(self) -> str:
        return self.machine
