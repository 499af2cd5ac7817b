"""The ranges of a run's rows that workers claim, under leases."""

from collections.abc import Collection
from datetime import datetime
from typing import Self
from uuid import UUID, uuid4

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from apps.evaluations.models.runs import Run
from apps.ids import new_id


class ShardQuerySet(models.QuerySet["Shard"]):
    def unfinished(self) -> Self:
        return self.filter(finished_at=None)

    def free(self, now: datetime | Now) -> Self:
        """Keep those that no living worker holds now, a time or the database's clock."""
        return self.unfinished().filter(Q(lease_until=None) | Q(lease_until__lt=now))

    def held_by(self, worker: UUID) -> Self:
        return self.unfinished().filter(worker=worker)

    def next_of(self, run_id: UUID, now: datetime, but_not: Collection[UUID]) -> "Shard | None":
        """The run's next shard to claim."""
        return self.free(now).filter(run=run_id).exclude(pk__in=but_not).order_by("number").first()

    def claim(self, shard: "Shard", worker: UUID, now: datetime, until: datetime) -> bool:
        """Take a shard under a lease; False when another was quicker or the run has ended.

        That the run is going is asked by a subquery: a join would be made a subquery with all the
        other conditions in it, and PostgreSQL, after waiting for another's claim, would not look
        at them again.
        """
        token = uuid4()
        going = Run.objects.filter(state=Run.State.RUNNING, pk=shard.run_id)
        taken = (
            self.free(now)
            .filter(pk=shard.pk, lease_token=shard.lease_token, run__in=going)
            .update(lease_token=token, lease_until=until, worker=worker, attempts=F("attempts") + 1)
        )
        shard.lease_token, shard.worker, shard.attempts = token, worker, shard.attempts + 1
        return bool(taken)


class Shard(models.Model):
    """A range of a run's rows that one worker at a time answers and judges.

    `start` and `stop` are places in the source: bytes of a file, positions of a dataset.
    The counters grow in the transaction that stores the results they count.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    account = models.ForeignKey("accounts.Account", models.CASCADE, related_name="+")
    run = models.ForeignKey(Run, models.CASCADE, related_name="shards")
    number = models.PositiveIntegerField()
    first_row = models.PositiveBigIntegerField()
    row_count = models.PositiveIntegerField()
    start = models.PositiveBigIntegerField()
    stop = models.PositiveBigIntegerField()
    lease_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    worker = models.UUIDField(null=True)
    attempts = models.PositiveIntegerField(default=0, help_text="Claims without progress.")
    suspect_position = models.PositiveBigIntegerField(
        null=True, help_text="The item that was alone in work at the last death."
    )
    spent_micros = models.PositiveBigIntegerField(
        default=0, help_text="What its calls cost as far as prices are known; 10^-6 each."
    )
    done_count = models.PositiveIntegerField(default=0)
    passed_count = models.PositiveIntegerField(default=0)
    failed_count = models.PositiveIntegerField(default=0)
    errored_count = models.PositiveIntegerField(default=0)
    unjudged_count = models.PositiveIntegerField(default=0)
    tally = models.TextField(default="{}", help_text="JSON: sums per criterion and per model.")
    finished_at = models.DateTimeField(null=True)

    objects = ShardQuerySet.as_manager()

    class Meta:
        ordering = ("run", "number")
        constraints = [
            models.UniqueConstraint(fields=("run", "number"), name="one_shard_per_number"),
        ]
        indexes = [
            models.Index("run", "number", condition=Q(finished_at=None), name="shard_unfinished"),
            models.Index(
                "worker", condition=Q(finished_at=None, worker__isnull=False), name="shard_held"
            ),
            models.Index("run", "first_row", name="shard_by_row"),
        ]

    def __str__(self) -> str:
        return f"rows {self.first_row} to {self.first_row + self.row_count - 1}"
