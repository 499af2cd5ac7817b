"""Runs: what is asked of which model, about which rows, judged by which criteria."""

from datetime import datetime
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from apps.accounts.models import OwnedModel, OwnedQuerySet, User
from apps.datasets.models import NAME_LENGTH, DatasetVersion, File
from apps.evaluations.models.evaluations import Evaluation
from apps.inference.models.endpoints import ModelEndpoint
from apps.strict_json import parse_json


class RunQuerySet(OwnedQuerySet):
    def present(self) -> Self:
        return self.filter(deleted_at=None, evaluation__deleted_at=None)

    def unfinished(self) -> Self:
        return self.filter(state__in=(Run.State.QUEUED, Run.State.RUNNING))

    def plannable(self, now: datetime | Now) -> Self:
        """Keep the queued ones that nobody plans now, a time or the database's clock."""
        return self.filter(
            Q(plan_until=None) | Q(plan_until__lt=now), state=Run.State.QUEUED
        ).order_by("created_at", "id")


class RunNumber(models.Model):
    """A short number of a run, given once: the keys of its results begin with it."""

    id = models.BigAutoField(primary_key=True)

    def __str__(self) -> str:
        return str(self.pk)


def new_number() -> int:
    """Take the next number, also when no run comes of it."""
    return RunNumber.objects.create().pk


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
    number = models.BigIntegerField(unique=True, editable=False)
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
            models.Index(
                "deleted_at", "id", condition=Q(deleted_at__isnull=False), name="run_deleted"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_final(self) -> bool:
        return self.state in self.FINAL

    def read_target(self) -> dict[str, Any]:
        return parse_json(self.target)
