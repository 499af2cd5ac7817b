"""Keep what results were before somebody changed them."""

from typing import Self

from django.db import models

from apps.evaluations.models.results import Result, key_of
from apps.evaluations.models.runs import Run
from apps.strict_json import dump_json, parse_json


class ResultVersionQuerySet(models.QuerySet["ResultVersion"]):
    def of_run(self, run: Run) -> Self:
        return self.filter(result__gte=key_of(run.number, 0), result__lt=key_of(run.number + 1, 0))


class ResultVersion(models.Model):
    """A result as it was until it was changed. The one that counts is the result itself.

    Few results have any, so that what it says is kept whole rather than in columns.
    """

    id = models.BigAutoField(primary_key=True)
    result = models.BigIntegerField(help_text="The result's key; see `key_of`.")
    closed_at = models.BigIntegerField(help_text="In whole seconds since 1970.")
    body = models.TextField(help_text="JSON: the columns of the result.")

    objects = ResultVersionQuerySet.as_manager()

    class Meta:
        ordering = ("result", "id")
        indexes = [models.Index("result", "id", name="version_by_result")]

    def __str__(self) -> str:
        return f"result {self.result} until {self.closed_at}"

    @classmethod
    def of(cls, result: Result, closed_at: int) -> Self:
        """Return the version that a result is now, unsaved."""
        columns = {
            one.attname: getattr(result, one.attname) for one in Result._meta.concrete_fields
        }
        return cls(result=result.pk, closed_at=closed_at, body=dump_json(columns))

    def read(self) -> Result:
        """Return the result as it was; it is not to be saved."""
        return Result(**parse_json(self.body))
