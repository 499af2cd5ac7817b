"""Results of items, each with the verdicts that the criteria gave it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import blake2b
from typing import Any, Self
from uuid import UUID

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Substr

from apps.evaluations.models.evaluations import Criterion
from apps.evaluations.models.runs import Run
from apps.evaluations.packing import Packed, Verdict, unpack

# A result's key is made of its run's number, its row and its repeat, in this many bits: the rows
# of a run lie together and in order, and no index beside the key finds them.
REPEAT_BITS, ROW_BITS, NUMBER_BITS = 8, 30, 25
ROW_SHIFT, NUMBER_SHIFT = REPEAT_BITS, REPEAT_BITS + ROW_BITS
MOST_REPEATS, MOST_ROWS = 1 << REPEAT_BITS, 1 << ROW_BITS


def key_of(number: int, row_index: int, repeat: int = 0) -> int:
    """Return the key of a result. row_index, repeat: from 0, below MOST_ROWS and MOST_REPEATS."""
    return number << NUMBER_SHIFT | row_index << ROW_SHIFT | repeat


def row_in(key: int) -> int:
    """Return the index of the row whose result has this key."""
    return key >> ROW_SHIFT & (MOST_ROWS - 1)


def number_in(key: int) -> int:
    """Return the number of the run whose result has this key."""
    return key >> NUMBER_SHIFT


def key_in(result_id: UUID) -> int | None:
    """Return the key of the result that is shown by this id; None for an id of no result."""
    key = result_id.int & ((1 << 64) - 1)
    return key if _shown(key) == result_id.hex else None


def _shown(key: int) -> str:
    """Return the 32 hex digits of the id that shows the result of this key."""
    bare = key.to_bytes(8, "big")
    return blake2b(bare, digest_size=8).hexdigest() + bare.hex()


@dataclass(frozen=True)
class Reason:
    """Why a result is errored. criterion: the one that could not judge, "" without an answer."""

    code: str
    message: str
    criterion: str = ""


class ResultQuerySet(models.QuerySet["Result"]):
    def of_run(self, run: Run) -> Self:
        return self.in_rows(run, 0, MOST_ROWS)

    def in_rows(self, run: Run, first: int, stop: int) -> Self:
        """Keep the results of a run's rows from `first` to before `stop`."""
        number = run.number + (stop >= MOST_ROWS)
        last = key_of(number, 0 if stop >= MOST_ROWS else stop)
        return self.filter(pk__gte=key_of(run.number, first), pk__lt=last)

    def in_order(self) -> Self:
        return self.order_by("pk")

    def first_errored(self) -> "Result | None":
        """Return the first errored result in the order of the rows."""
        return self.filter(state=Result.State.ERRORED).in_order().first()

    def judged(self, index: int, letters: Sequence[str]) -> Self:
        """Keep the results to which the criterion of this index gave one of these verdicts."""
        letter = Substr("verdicts", index + 1, 1)
        return self.alias(letter=letter).filter(letter__in=letters)


class ResultManager(models.Manager.from_queryset(ResultQuerySet)):  # type: ignore[misc]  # made here
    """Rows and repeats can be asked for by name; where speed counts they are asked for by key."""

    def get_queryset(self) -> ResultQuerySet:
        row: Any = F("id").bitrightshift(ROW_SHIFT).bitand(MOST_ROWS - 1)
        return (
            super()
            .get_queryset()
            .annotate(
                row_index=models.ExpressionWrapper(row, models.BigIntegerField()),
                repeat=models.ExpressionWrapper(
                    F("id").bitand(MOST_REPEATS - 1), models.BigIntegerField()
                ),
            )
        )


class Result(models.Model):
    """The result of one row in one repeat. Written once, with the verdicts of its criteria.

    Its key tells its run, row and repeat; a run's account is the result's. No foreign key is
    checked for each of a billion rows: whoever removes a run removes its range of keys.
    """

    class State(models.TextChoices):
        PASSED = "passed", "Passed"
        FAILED = "failed", "Failed"
        ERRORED = "errored", "Errored"
        UNJUDGED = "unjudged", "Not judged"

    # Given by us; of this type, since only then SQLite keeps the rows themselves in its order.
    id = models.BigAutoField(primary_key=True, help_text="See `key_of`.")
    stored_at = models.BigIntegerField(help_text="In whole seconds since 1970.")
    state = models.CharField(max_length=8, choices=State)
    sample = models.TextField(null=True, help_text="JSON: the answer, as criteria see it.")
    exchange = models.TextField(null=True, help_text="JSON: what was asked and what it took.")
    error_code = models.CharField(max_length=60, blank=True)
    error_message = models.TextField(blank=True)
    verdicts = models.TextField(
        blank=True, help_text="A letter for each criterion, in their order; see packing.py."
    )
    scores = models.TextField(blank=True, help_text="JSON: the values that letters do not tell.")
    verdict_faults = models.TextField(null=True, help_text="JSON: why criteria could not judge.")
    verdict_traces = models.TextField(null=True, help_text="JSON: what verdicts rest on.")
    imported_id = models.CharField(max_length=100, null=True, editable=False)

    objects = ResultManager()

    class Meta:
        ordering = ("id",)
        indexes = [
            models.Index("state", "id", name="result_by_state"),
            models.Index(
                "imported_id",
                "id",
                condition=Q(imported_id__isnull=False),
                name="result_by_imported_id",
            ),
        ]

    def __str__(self) -> str:
        return f"row {self.row_index}"

    @cached_property
    def row_index(self) -> int:
        """The index of its row, from 0 in the order of the source."""
        return row_in(self.pk)

    @cached_property
    def repeat(self) -> int:
        return self.pk & (MOST_REPEATS - 1)

    @cached_property
    def run(self) -> Run:
        return Run.objects.select_related("evaluation").get(number=number_in(self.pk))

    @property
    def created_at(self) -> datetime:
        return datetime.fromtimestamp(self.stored_at, UTC)

    @property
    def shown_id(self) -> UUID:
        """The id by which faces show it; `key_in` reads it back."""
        return UUID(hex=_shown(self.pk))

    @property
    def shown_hex(self) -> str:
        """The digits of `shown_id`."""
        return _shown(self.pk)

    def reason(self) -> Reason | None:
        """Return why it is errored: its own fault, else that of the first errored criterion."""
        if self.error_code:
            return Reason(self.error_code, self.error_message)
        for index, verdict in enumerate(self.read_verdicts()):
            if verdict is not None and verdict.is_errored:
                name = self._criterion_at(index)
                return Reason(verdict.error_code, verdict.error_message, name)
        return None

    def read_verdicts(self) -> list[Verdict | None]:
        """Return the verdict of each criterion in their order, None where there is none."""
        packed = Packed(self.verdicts, self.scores, self.verdict_faults, self.verdict_traces)
        own = (self.error_code, self.error_message) if self.error_code else None
        return unpack(packed, own)

    def _criterion_at(self, index: int) -> str:
        criterion = Criterion.objects.get(
            evaluation=self.run.evaluation_id, version=self.run.criteria_version, position=index
        )
        return criterion.name
