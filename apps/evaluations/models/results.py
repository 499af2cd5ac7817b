"""Results of items, and the scores that criteria and people gave them."""

from typing import Self, cast

from django.db import models
from django.db.models import Q
from django.utils import timezone

from apps.accounts.models import OwnedModel, OwnedQuerySet
from apps.evaluations.models.evaluations import Criterion
from apps.evaluations.models.runs import Run
from apps.evaluations.models.verdicts import Reason, ScoreQuerySet, ScoreSource
from apps.ids import new_id


class ResultQuerySet(OwnedQuerySet):
    def in_order(self) -> Self:
        return self.order_by("row_index", "repeat")

    def first_errored(self) -> "Result | None":
        """Return the first errored result in the order of the rows."""
        errored = self.filter(state=Result.State.ERRORED).in_order()
        return cast("Result | None", errored.first())


class Result(OwnedModel):
    """The result of one row in one repeat. Written once, with its machine scores."""

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
        """Return why it is errored: its own fault, else that of the first errored criterion."""
        if self.error_code:
            return Reason(self.error_code, self.error_message)
        return self.scores.first_reason()


class Score(models.Model):
    """The verdict of a criterion on a result, by a machine or by a person. Never overwritten."""

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
