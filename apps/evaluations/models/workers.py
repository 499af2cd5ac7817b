"""The signs of life of tasks at work and of machines that keep workers."""

from django.db import models
from django.utils import timezone


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
