"""The values of one criterion side by side, so that a run can be sorted by them."""

from typing import Self

from django.db import models

from apps.evaluations.models.results import (
    NUMBER_SHIFT,
    REPEAT_BITS,
    ROW_BITS,
    key_of,
)
from apps.evaluations.models.runs import Run

# As wide as a result's key, with the criterion's position before the row: a criterion's values
# over the whole run lie together.
MOST_COLUMNS = 1 << REPEAT_BITS


def column_key(number: int, position: int, first_row: int) -> int:
    """Return the key of a column. position: the criterion's, below MOST_COLUMNS."""
    return number << NUMBER_SHIFT | position << ROW_BITS | first_row


class ColumnQuerySet(models.QuerySet["Column"]):
    def of_run(self, run: Run) -> Self:
        return self.filter(pk__gte=key_of(run.number, 0), pk__lt=key_of(run.number + 1, 0))

    def of_criterion(self, run: Run, position: int) -> Self:
        """Keep a criterion's columns of a run, in the order of the rows."""
        first = column_key(run.number, position, 0)
        return self.filter(pk__gte=first, pk__lt=first + (1 << ROW_BITS)).order_by("pk")


class Column(models.Model):
    """The verdicts of a criterion on the results of a finished shard, in the order of their keys.

    What it says stands in the results too: it is there to be read a thousand at a time, and may be
    missing. Its key tells run, criterion and first row; whoever removes a run removes its range of
    keys. Results are told by their places: each row of the shard has one in each repeat.
    """

    id = models.BigAutoField(primary_key=True, help_text="See `column_key`.")
    letters = models.TextField(help_text="A letter for each result; see packing.py.")
    numbers = models.BinaryField(
        null=True, help_text="A double for each result, where the letters do not tell the value."
    )

    objects = ColumnQuerySet.as_manager()

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{len(self.letters)} values from row {self.first_row}"

    @property
    def first_row(self) -> int:
        return self.pk & ((1 << ROW_BITS) - 1)
