"""Read results with their rows and verdicts, as plain values."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS
from django.db.models.base import ModelState

from apps.evaluations.engine.row_places import rows_at
from apps.evaluations.models import Criterion, Result, Run, key_of
from apps.evaluations.reports.criteria import read_criteria
from apps.evaluations.targets import Row
from apps.grading.graders import read_grader
from apps.grading.graders.base import Grader, PlainGrader
from apps.grading.samples import Sample, complete_sample
from apps.prepared import Prepared
from apps.strict_json import parse_json, parse_stored

PAGE = 500
RESULT = [field.attname for field in Result._meta.concrete_fields]

_UPWARDS = Prepared(
    lambda first, last: (
        Result.objects.filter(pk__gte=first, pk__lte=last).order_by("pk").values_list(*RESULT)
    )
)
_DOWNWARDS = Prepared(
    lambda first, last: (
        Result.objects.filter(pk__gte=first, pk__lte=last).order_by("-pk").values_list(*RESULT)
    )
)
# The state of a model's object that was read; nobody writes through one of these.
_STORED = ModelState()
_STORED.adding, _STORED.db = False, DEFAULT_DB_ALIAS

log = logging.getLogger(__name__)


# Judgement and Item are not frozen: a page makes hundreds, and to make a frozen one takes longer.
@dataclass(slots=True)
class Judgement:
    """The verdict of a criterion's grader on a result, with what it takes to explain it.

    kept_evidence: what was stored of it; see `evidence`. exchange: JSON of what a judge was asked
    and answered. notes: what else is to be said of the value, by name.
    """

    criterion: Criterion
    value: float | None
    passed: bool | None
    error_code: str
    error_message: str
    kept_evidence: str
    exchange: str | None
    notes: Mapping[str, Any] | None
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


@dataclass(slots=True)
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


def read_results(
    run: Run, key: int | None, limit: int, *, descending: bool = False
) -> list[Result]:
    """Return the run's results from the one of this key on, or from the first or last, in order.

    The one of the key is the first of them, where it is there.
    """
    first, last = key_of(run.number, 0), key_of(run.number + 1, 0) - 1
    if descending:
        last = last if key is None else min(key, last)
    else:
        first = first if key is None else max(key, first)
    statement = _DOWNWARDS if descending else _UPWARDS
    rows = statement.rows(first=first, last=last, limit=limit)
    return [_result(row) for row in rows]


def _result(row: tuple[Any, ...]) -> Result:
    """Make a result of its columns without the model's constructor, which takes longer."""
    result = Result.__new__(Result)
    result.__dict__.update(zip(RESULT, row, strict=True), _state=_STORED)
    return result


def read_items(
    run: Run, results: Iterable[Result], criteria: Sequence[Criterion] | None = None
) -> list[Item]:
    """Read results with their rows and verdicts: one statement for a page that lies in one shard.

    criteria: what read_criteria gave, where somebody has it already.
    """
    results = list(results)
    criteria = read_criteria(run) if criteria is None else criteria
    rows = rows_at(run, (result.row_index for result in results))
    samples = parse_stored(result.sample or "null" for result in results)
    exchanges = parse_stored(result.exchange or "{}" for result in results)
    return [
        _item(result, rows[result.row_index], sample, exchange, criteria)
        for result, sample, exchange in zip(results, samples, exchanges, strict=True)
    ]


def read_pages(run: Run) -> Iterator[list[Item]]:
    """Yield all results of a run in the order of the rows, a page in memory at a time."""
    key: int | None = None
    while page := read_results(run, key, PAGE):
        yield read_items(run, page)
        key = page[-1].pk + 1


def _item(
    result: Result,
    row: Row,
    sample: dict[str, Any] | None,
    exchange: dict[str, Any],
    criteria: Sequence[Criterion],
) -> Item:
    if not result.sample:
        sample = row.sample
    elif sample is not None:
        sample = complete_sample(sample)
    scores = [
        Judgement(criterion, *verdict, item=row.item, sample=sample)
        for criterion, verdict in zip(criteria, result.read_verdicts(), strict=False)
        if verdict is not None
    ]
    return Item(result, row.item, sample, exchange, scores)


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
