"""Targets that ask nobody: the row brings its answer, or another run has got it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self
from uuid import UUID

from apps.clients.replies import told_failure
from apps.clients.tidying import text_of
from apps.evaluations.models import Evaluation, Result, Run, Shard
from apps.evaluations.targets.base import Answer, Instant, Prepared, Row, Target
from apps.grading.graders.base import Fault
from apps.grading.samples import complete_sample
from apps.inference.attached_models import Models
from apps.strict_json import parse_json

UNANSWERED = Answer(
    None,
    fault=Fault("never_answered", "The run whose answers are graded ended before it had this one."),
)


@dataclass(frozen=True)
class Recorded(Target, Instant):
    """The row's own `sample`, completed from its `choices` where it is a raw completion."""

    kind = "recorded"
    waits = False

    model: str = field(default="", init=False)

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        return cls()

    def prepare(self, evaluation: Evaluation) -> Prepared:
        return Prepared({"kind": self.kind})

    def open(self, models: Models) -> "Recorded":
        return self

    def at_once(self, row: Row, repeat: int) -> Answer:
        if row.sample is None:
            return Answer(None)
        return Answer(complete_sample(row.sample), fault=recorded_fault(row.sample))


def recorded_fault(sample: Mapping[str, Any]) -> Fault | None:
    """Return the failure that a recorded completion tells, unless a text stands beside it."""
    told = None if text_of(sample.get("output_text")).strip() else told_failure(sample)
    return Fault(told.code, told.message) if told else None


class Kept(NamedTuple):
    """An item's answer as another run has stored it."""

    sample: str | None
    exchange: str | None
    error_code: str
    error_message: str


class KeptAnswers(Instant):
    """The answers that another run got, by row index and repeat; its faults are answers too.

    in_rows: what is not there is in the row itself, for that run asked nobody either.
    """

    def __init__(self, answers: Mapping[tuple[int, int], Kept], *, in_rows: bool) -> None:
        self._answers = answers
        self._in_rows = in_rows

    @classmethod
    def of(cls, run_id: UUID, shard: Shard, *, in_rows: bool) -> Self:
        """Read those of a shard's rows."""
        rows = range(shard.first_row, shard.first_row + shard.row_count)
        run = Run.objects.only("number").get(pk=run_id)
        found = Result.objects.in_rows(run, rows.start, rows.stop).order_by()
        rows_kept = found.values_list("row_index", "repeat", *Kept._fields)
        answers = {(index, repeat): Kept(*kept) for index, repeat, *kept in rows_kept}
        return cls(answers, in_rows=in_rows)

    def at_once(self, row: Row, repeat: int) -> Answer:
        kept = self._answers.get((row.index, repeat))
        if kept is None:
            return Recorded().at_once(row, repeat) if self._in_rows else UNANSWERED
        fault = Fault(kept.error_code, kept.error_message) if kept.error_code else None
        if kept.sample is None:
            answer = Recorded().at_once(row, repeat)
            return answer._replace(exchange=kept.exchange, fault=fault or answer.fault)
        sample = complete_sample(parse_json(kept.sample))
        fault = fault or recorded_fault(sample)
        return Answer(sample, kept.exchange, fault, kept=kept.sample)
