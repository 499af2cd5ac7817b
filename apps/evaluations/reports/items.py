"""Read results with their rows and verdicts, as plain values."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

from apps.evaluations.engine.source import rows_at
from apps.evaluations.models import Criterion, Result, Run
from apps.evaluations.targets import Row
from apps.grading.graders import read_grader
from apps.grading.graders.base import Grader, PlainGrader
from apps.grading.samples import Sample, complete_sample
from apps.keyset import pages_of
from apps.strict_json import parse_json

PAGE = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict of a criterion's grader on a result, with what it takes to explain it.

    kept_evidence: what was stored of it; see `evidence`. exchange: JSON of what a judge was asked
    and answered.
    """

    criterion: Criterion
    value: float | None
    passed: bool | None
    error_code: str
    error_message: str
    kept_evidence: str
    exchange: str | None
    item: dict[str, Any] = field(repr=False)
    sample: dict[str, Any] | None = field(repr=False)

    @property
    def criterion_id(self) -> UUID:
        return self.criterion.pk

    @property
    def evidence(self) -> str:
        """Explain the verdict: as it was stored, or as the grader says it again."""
        if self.kept_evidence or self.value is None:
            return self.kept_evidence
        return evidence_of(self.criterion, self.item, self.sample)

    @property
    def is_errored(self) -> bool:
        return self.value is None and bool(self.error_code)

    @property
    def state(self) -> Result.State:
        """The state of a result that has no other verdict than this."""
        if self.is_errored:
            return Result.State.ERRORED
        if self.passed is None:
            return Result.State.UNJUDGED
        return Result.State.PASSED if self.passed else Result.State.FAILED


@dataclass(frozen=True)
class Item:
    """A result with the row it came of and what was said of it, in the order of the criteria.

    sample: the answer as criteria saw it: asked for, or recorded in the row; None when there is
    none. exchange: what was asked and what it took; {} for a recorded answer.
    """

    result: Result
    item: dict[str, Any]
    sample: dict[str, Any] | None
    exchange: dict[str, Any]
    scores: Sequence[Judgement]

    @property
    def verdicts(self) -> dict[UUID, Judgement]:
        """The verdict of each criterion's grader, by the criterion's id, in order."""
        return {score.criterion_id: score for score in self.scores}


def read_criteria(run: Run) -> list[Criterion]:
    """List the criteria that the run is judged by, in order."""
    return [
        *Criterion.objects.filter(
            evaluation=run.evaluation_id, version=run.criteria_version
        ).order_by("position")
    ]


def read_items(
    run: Run, results: Iterable[Result], criteria: Sequence[Criterion] | None = None
) -> list[Item]:
    """Read results with their rows and verdicts: two queries for a page that lies in one shard.

    criteria: what read_criteria gave, where somebody has it already.
    """
    results = list(results)
    criteria = read_criteria(run) if criteria is None else criteria
    rows = rows_at(run, (result.row_index for result in results))
    return [_item(result, rows[result.row_index], criteria) for result in results]


def read_pages(run: Run) -> Iterator[list[Item]]:
    """Yield all results of a run in the order of the rows, a page in memory at a time."""
    for page in pages_of(Result.objects.of_run(run), ("pk",), PAGE):
        yield read_items(run, page)


def _item(result: Result, row: Row, criteria: Sequence[Criterion]) -> Item:
    sample = parse_json(result.sample) if result.sample else row.sample
    return Item(
        result=result,
        item=row.item,
        sample=sample,
        exchange=parse_json(result.exchange) if result.exchange else {},
        scores=[
            Judgement(criterion, *verdict, item=row.item, sample=sample)
            for criterion, verdict in zip(criteria, result.read_verdicts(), strict=False)
            if verdict is not None
        ],
    )


def evidence_of(criterion: Criterion, item: dict[str, Any], sample: dict[str, Any] | None) -> str:
    """Ask a criterion's grader again to explain its verdict on an answer.

    "" for graders that would have to ask a model or a sandbox: theirs is stored.
    """
    try:
        grader = _grader(criterion.kind, criterion.settings)
    except ValueError:  # it was judged by an earlier version of the program, or elsewhere
        return ""
    if not isinstance(grader, PlainGrader):
        return ""
    try:
        answer = None if sample is None else complete_sample(sample)
        return grader.grade(Sample(item, answer)).evidence
    except Exception:
        log.exception("The evidence of %s cannot be made again", criterion)
        return ""


@lru_cache(maxsize=256)
def _grader(kind: str, settings: str) -> Grader:
    return read_grader(kind, parse_json(settings))
