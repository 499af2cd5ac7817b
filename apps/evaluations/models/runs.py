"""Runs, the shards they are worked in, and the results and scores that come of them."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Self
from uuid import UUID, uuid4

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from apps.accounts.models import OwnedModel, OwnedQuerySet, User
from apps.datasets.models import NAME_LENGTH, DatasetVersion, File
from apps.evaluations.models.evaluations import Criterion, Evaluation
from apps.evaluations.models.verdicts import Reason, ScoreQuerySet, ScoreSource
from apps.ids import new_id
from apps.inference.models.endpoints import ModelEndpoint
from apps.strict_json import parse_json


class RunQuerySet(OwnedQuerySet):
    def present(self) -> Self:
        return self.filter(deleted_at=None, evaluation__deleted_at=None)

    def unfinished(self) -> Self:
        return self.filter(state__in=(Run.State.QUEUED, Run.State.RUNNING))

    def plannable(self, now: datetime) -> Self:
        return self.filter(
            Q(plan_until=None) | Q(plan_until__lt=now), state=Run.State.QUEUED
        ).order_by("created_at", "id")


class Run(OwnedModel):
    """Source × target × criteria, frozen when it starts. A state that is final never changes."""

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"
        CANCELED = "canceled", "Canceled"

    class OnError(models.TextChoices):
        CONTINUE = "continue", "Go on with the other items"
        FAIL = "fail", "Fail the run"

    class OnEmpty(models.TextChoices):
        FAIL = "fail", "Fail the run"
        COMPLETE = "complete", "Complete with nothing"

    FINAL = (State.COMPLETED, State.FAILED, State.CANCELED)

    evaluation = models.ForeignKey(Evaluation, models.CASCADE, related_name="runs")
    criteria_version = models.PositiveIntegerField(default=1)
    name = models.CharField(max_length=NAME_LENGTH)
    metadata = models.TextField(default="{}", help_text="JSON object of texts.")
    model = models.CharField(max_length=300, blank=True, help_text="Empty: nothing is asked.")

    source_file = models.ForeignKey(File, models.PROTECT, null=True, related_name="runs")
    source_version = models.ForeignKey(
        DatasetVersion, models.PROTECT, null=True, related_name="runs"
    )
    target = models.TextField(
        default='{"kind":"recorded"}', help_text="JSON: how items are answered."
    )
    endpoint = models.ForeignKey(ModelEndpoint, models.PROTECT, null=True, related_name="runs")
    repeats = models.PositiveIntegerField(default=1)
    on_error = models.CharField(max_length=10, choices=OnError, default=OnError.CONTINUE)
    on_empty = models.CharField(max_length=10, choices=OnEmpty, default=OnEmpty.FAIL)
    max_calls = models.PositiveBigIntegerField(
        null=True, help_text="Calls of models at most, retries included."
    )
    budget = models.DecimalField(
        max_digits=15, decimal_places=6, null=True, help_text="In the currency of the prices."
    )
    dialect = models.CharField(max_length=20, blank=True, editable=False)
    spec = models.TextField(
        default="{}", editable=False, help_text="JSON: what the dialect it came through must echo."
    )

    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    error_code = models.CharField(max_length=60, blank=True)
    error_message = models.TextField(blank=True)
    plan_token = models.UUIDField(null=True, editable=False)
    plan_until = models.DateTimeField(null=True, editable=False)
    plan_attempts = models.PositiveIntegerField(default=0, editable=False)
    row_count = models.PositiveBigIntegerField(default=0, help_text="Rows of the source.")
    total_count = models.PositiveBigIntegerField(default=0, help_text="Rows × repeats.")
    # The tally below is written once, at the end; until then it is the sum over the shards.
    passed_count = models.PositiveBigIntegerField(default=0)
    failed_count = models.PositiveBigIntegerField(default=0)
    errored_count = models.PositiveBigIntegerField(default=0)
    unjudged_count = models.PositiveBigIntegerField(default=0)
    tally = models.TextField(default="{}", help_text="JSON: sums per criterion and per model.")

    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    retry_of = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="retries"
    )
    # Kept when that run is purged: by it a run knows that nobody is to be asked for its answers.
    answers_of = models.ForeignKey(
        "self",
        models.DO_NOTHING,
        db_constraint=False,
        null=True,
        blank=True,
        related_name="regrades",
        help_text="The run whose answers are graded; nobody is asked anew.",
    )
    imported_id = models.CharField(max_length=100, null=True, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    deleted_at = models.DateTimeField(null=True, editable=False)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = [
            models.CheckConstraint(
                condition=Q(source_file=None) | Q(source_version=None), name="one_source"
            ),
            models.UniqueConstraint(
                fields=("account", "imported_id"), name="one_run_per_imported_id"
            ),
        ]
        indexes = [
            models.Index("account", "created_at", "id", name="run_by_account"),
            models.Index("evaluation", "created_at", "id", name="run_by_evaluation"),
            models.Index(
                "created_at",
                "id",
                condition=Q(state__in=("queued", "running")),
                name="run_unfinished",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_final(self) -> bool:
        return self.state in self.FINAL

    def read_target(self) -> dict[str, Any]:
        return parse_json(self.target)

    def first_errored(self) -> "Result | None":
        """The first errored result in the order of the rows."""
        return self.results.filter(state=Result.State.ERRORED).in_order().first()


class ShardQuerySet(models.QuerySet["Shard"]):
    def unfinished(self) -> Self:
        return self.filter(finished_at=None)

    def free(self, now: datetime) -> Self:
        """Those that no living worker holds."""
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


class ResultQuerySet(OwnedQuerySet):
    def in_order(self) -> Self:
        return self.order_by("row_index", "repeat")


class Result(OwnedModel):
    """What came of one row in one repeat. Written once, with its machine scores."""

    class State(models.TextChoices):
        PASSED = "passed", "Passed"
        FAILED = "failed", "Failed"
        ERRORED = "errored", "Errored"
        UNJUDGED = "unjudged", "Not judged"

    # No index of its own: the unique ones begin with it, and PostgreSQL, before it has statistics,
    # would read by it all that a run has and sort that for a page.
    run = models.ForeignKey(Run, models.CASCADE, related_name="results", db_index=False)
    row_index = models.PositiveBigIntegerField(help_text="From 0, in the order of the source.")
    repeat = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=8, choices=State)
    sample = models.TextField(null=True, help_text="JSON: the answer, as criteria see it.")
    exchange = models.TextField(null=True, help_text="JSON: what was asked and what it took.")
    error_code = models.CharField(max_length=60, blank=True)
    error_message = models.TextField(blank=True)
    imported_id = models.CharField(max_length=100, null=True, editable=False)

    objects = ResultQuerySet.as_manager()

    class Meta:
        ordering = ("run", "row_index", "repeat")
        constraints = [
            models.UniqueConstraint(
                fields=("run", "row_index", "repeat"), name="one_result_per_item"
            ),
        ]
        indexes = [
            models.Index("run", "state", "row_index", "repeat", name="result_by_state"),
            models.Index(
                "run",
                "imported_id",
                condition=Q(imported_id__isnull=False),
                name="result_by_imported_id",
            ),
        ]

    def __str__(self) -> str:
        return f"row {self.row_index}"

    def reason(self) -> Reason | None:
        """Why it is errored: by its own error, or else by that of a criterion that cannot judge."""
        if self.error_code:
            return Reason(self.error_code, self.error_message)
        return self.scores.first_reason()


class Score(models.Model):
    """One criterion's verdict on one result, by a machine or by a person. Never overwritten."""

    Source = ScoreSource

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    # No index of its own: the unique one begins with it.
    result = models.ForeignKey(Result, models.CASCADE, related_name="scores", db_index=False)
    criterion = models.ForeignKey(Criterion, models.CASCADE, related_name="scores")
    source = models.CharField(max_length=7, choices=Source, default=Source.MACHINE)
    author = models.CharField(max_length=64, blank=True, help_text="The person's id; else empty.")
    value = models.FloatField(null=True)
    passed = models.BooleanField(null=True, help_text="Empty: stays out of rates.")
    evidence = models.TextField(blank=True, help_text="What the verdict rests on.")
    error_code = models.CharField(max_length=60, blank=True)
    error_message = models.TextField(blank=True)
    exchange = models.TextField(null=True, help_text="JSON: the judge's exchange.")
    grader_version = models.CharField(max_length=20, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = ScoreQuerySet.as_manager()

    class Meta:
        ordering = ("result", "criterion", "source", "author")
        constraints = [
            models.UniqueConstraint(
                fields=("result", "criterion", "source", "author"), name="one_score_per_author"
            )
        ]

    def __str__(self) -> str:
        return f"{self.criterion_id}: {self.value}"

    @property
    def is_errored(self) -> bool:
        return self.value is None and bool(self.error_code)


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
