"""The ranges of a run's rows that workers claim, under leases."""

from collections.abc import Collection
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple, Self
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection, models
from django.db.models import F, Q
from django.db.models.functions import Now

from apps.evaluations.models.runs import Run
from apps.ids import new_id
from apps.leases import database_now, lease_end

# What is locked is looked at again by PostgreSQL, so that nothing is taken that another got first.
_TAKE = """
WITH picked AS (
    SELECT id, number, suspect_position IS NOT NULL OR attempts >= %(suspected_from)s AS is_suspect
    FROM evaluations_shard
    WHERE run_id = %(run)s AND finished_at IS NULL AND id <> ALL(%(held)s)
        AND (lease_until IS NULL OR lease_until < clock_timestamp())
    ORDER BY number LIMIT %(most)s FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE evaluations_shard shard
    SET lease_token = gen_random_uuid(), attempts = attempts + 1,
        lease_until = clock_timestamp() + %(lease)s * interval '1 second',
        worker = %(worker)s
    FROM picked
    WHERE shard.id = picked.id
        AND NOT EXISTS (
            SELECT FROM picked odd WHERE odd.is_suspect AND odd.number <= picked.number
        )
        AND EXISTS (
            SELECT FROM evaluations_run WHERE id = %(run)s AND state = 'running'
        )
    RETURNING shard.*
)
SELECT EXISTS (SELECT FROM picked WHERE is_suspect), {columns}
FROM (SELECT) one LEFT JOIN taken ON true
"""


class Found(NamedTuple):
    """The shards that were claimed, in order; is a suspect one next, and may there be more?"""

    taken: list["Shard"]
    is_suspect_next: bool
    has_more: bool


class ShardQuerySet(models.QuerySet["Shard"]):
    def unfinished(self) -> Self:
        return self.filter(finished_at=None)

    def free(self, now: datetime | Now) -> Self:
        """Keep those that no living worker holds now, a time or the database's clock."""
        return self.unfinished().filter(Q(lease_until=None) | Q(lease_until__lt=now))

    def held_by(self, worker: UUID) -> Self:
        return self.unfinished().filter(worker=worker)

    def next_of(
        self, run_id: UUID, now: datetime | Now, but_not: Collection[UUID]
    ) -> "Shard | None":
        """The run's next shard to claim."""
        return self.next_ones(run_id, now, but_not).first()

    def next_ones(self, run_id: UUID, now: datetime | Now, but_not: Collection[UUID]) -> Self:
        return self.free(now).filter(run=run_id).exclude(pk__in=but_not).order_by("number")

    def take(self, run_id: UUID, worker: UUID, most: int, but_not: Collection[UUID]) -> "Found":
        """Claim the next shards of a running run, up to the first suspect one.

        Of workers that race for a run's shards each gets others on PostgreSQL, which passes over
        what another is just taking.
        """
        if connection.vendor != "postgresql":
            return self._take_one_by_one(run_id, worker, most, but_not)
        names = [field.attname for field in Shard._meta.concrete_fields]
        with connection.cursor() as cursor:
            cursor.execute(
                _TAKE.format(columns=", ".join(f"taken.{name}" for name in names)),
                {
                    "run": run_id,
                    "held": list(but_not),
                    "suspected_from": settings.ENGINE_ATTEMPTS,
                    "most": most,
                    "lease": settings.ENGINE_LEASE_SECONDS,
                    "worker": worker,
                },
            )
            rows = cursor.fetchall()
        is_suspect_next = rows[0][0]
        shards = [Shard.from_db(self.db, names, row[1:]) for row in rows if row[1] is not None]
        shards.sort(key=attrgetter("number"))
        return Found(shards, is_suspect_next, len(shards) == most)

    def _take_one_by_one(
        self, run_id: UUID, worker: UUID, most: int, but_not: Collection[UUID]
    ) -> "Found":
        now = database_now()
        taken: list[Shard] = []
        candidates = list(self.next_ones(run_id, now, but_not)[:most])
        for shard in candidates:
            if shard.is_suspect:
                return Found(taken, is_suspect_next=True, has_more=False)
            if self.claim(shard, worker, now, lease_end(now)):
                taken.append(shard)
        return Found(taken, is_suspect_next=False, has_more=len(candidates) == most)

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

    @property
    def is_suspect(self) -> bool:
        """Return whether so many workers died of it that it must be worked alone."""
        return self.suspect_position is not None or self.attempts >= settings.ENGINE_ATTEMPTS
