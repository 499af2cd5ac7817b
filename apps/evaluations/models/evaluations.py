"""Evaluations: a shape of items and the criteria that judge them."""

from typing import Any, Self

from django.db import models
from django.utils import timezone

from apps.accounts.models import OwnedModel, OwnedQuerySet, User
from apps.datasets.models import NAME_LENGTH
from apps.strict_json import parse_json


class EvaluationQuerySet(OwnedQuerySet):
    def present(self) -> Self:
        return self.filter(deleted_at=None)

    def with_criteria(self) -> Self:
        """Fetch the criteria of the current version along; of earlier ones there may be many."""
        current = Criterion.objects.filter(version=models.F("evaluation__criteria_version"))
        return self.prefetch_related(models.Prefetch("criteria", current))


class Evaluation(OwnedModel):
    """The definition of a good answer: a schema for items and versions of criteria.

    A run keeps the criteria of the version it ran with.
    """

    name = models.CharField(max_length=NAME_LENGTH)
    call_name = models.CharField(
        max_length=200, null=True, blank=True, help_text="The name by which a program runs it."
    )
    description = models.TextField(blank=True, default="")
    dataset_name = models.CharField(
        max_length=200, blank=True, default="", help_text="The dataset that a run by name reads."
    )
    scorers = models.TextField(
        blank=True,
        default="",
        help_text="JSON list of names: scorers and models that become criteria when a run by "
        "name starts. Empty: the criteria are as they are.",
    )
    metadata = models.TextField(default="{}", help_text="JSON object of texts.")
    item_schema = models.TextField(default="{}", help_text="JSON Schema of an item.")
    has_sample = models.BooleanField(
        default=False,
        help_text="Do its rows bring a `sample`, the answer, as their schema is shown?",
    )
    dialect = models.CharField(max_length=20, blank=True, editable=False)
    spec = models.TextField(
        default="{}", editable=False, help_text="JSON: what the dialect it came through must echo."
    )
    criteria_version = models.PositiveIntegerField(default=1, editable=False)
    imported_id = models.CharField(max_length=100, null=True, editable=False)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    archived_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, editable=False)

    objects = EvaluationQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = [
            models.UniqueConstraint(
                fields=("account", "call_name"),
                condition=models.Q(deleted_at=None),
                name="one_evaluation_per_call_name",
            ),
            models.UniqueConstraint(
                fields=("account", "imported_id"), name="one_evaluation_per_imported_id"
            ),
        ]
        indexes = [
            models.Index("account", "created_at", "id", name="evaluation_by_creation"),
            models.Index("account", "updated_at", "id", name="evaluation_by_update"),
            models.Index(
                "deleted_at",
                "id",
                condition=models.Q(deleted_at__isnull=False),
                name="evaluation_deleted",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def read_item_schema(self) -> Any:
        return parse_json(self.item_schema)

    def read_scorers(self) -> list[str] | None:
        return parse_json(self.scorers) if self.scorers else None

    def criteria_of(self, version: int) -> "list[Criterion]":
        """The criteria of a version in order, from what was prefetched where it was."""
        return [criterion for criterion in self.criteria.all() if criterion.version == version]


class Criterion(models.Model):
    """A question that is asked of every answer. Never edited: changed criteria are a version."""

    id = models.UUIDField(primary_key=True, editable=False)
    evaluation = models.ForeignKey(Evaluation, models.CASCADE, related_name="criteria")
    version = models.PositiveIntegerField(default=1)
    position = models.PositiveIntegerField()
    key = models.CharField(max_length=NAME_LENGTH + 40, help_text="The id that callers see.")
    kind = models.CharField(max_length=40)
    name = models.CharField(max_length=NAME_LENGTH)
    settings = models.TextField(help_text="JSON object, as it came in.")

    class Meta:
        verbose_name_plural = "criteria"
        ordering = ("evaluation", "version", "position")
        constraints = [
            models.UniqueConstraint(
                fields=("evaluation", "version", "position"), name="one_criterion_per_position"
            )
        ]

    def __str__(self) -> str:
        return self.name

    def read_settings(self) -> dict[str, Any]:
        return parse_json(self.settings)
