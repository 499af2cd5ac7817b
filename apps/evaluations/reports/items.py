"""Read results with their rows and verdicts, as plain values."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from apps.evaluations.engine.source import rows_at
from apps.evaluations.models import Criterion, Result, Run, Score
from apps.evaluations.models.verdicts import by_machine
from apps.evaluations.targets import Row
from apps.keyset import pages_of
from apps.leases import uuid_writer
from apps.strict_json import parse_json

PAGE = 500


class Judgement(NamedTuple):
    """A Score as a plain tuple, since models of thousands of scores take too long to make."""

    result_id: UUID
    criterion_id: UUID
    source: str
    author: str
    value: float | None
    passed: bool | None
    evidence: str
    error_code: str
    error_message: str
    exchange: str | None
    criterion: Criterion

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
    none. exchange: what was asked and what it took; {} for a recorded answer. scores: of machines
    and of people; what counts is in `verdicts`.
    """

    result: Result
    item: dict[str, Any]
    sample: dict[str, Any] | None
    exchange: dict[str, Any]
    scores: Sequence[Judgement]

    @property
    def verdicts(self) -> dict[UUID, Judgement]:
        """The verdict of each criterion's grader, by the criterion's id, in order."""
        return {score.criterion_id: score for score in by_machine(self.scores)}


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
    """Read results with their rows and scores: four queries for a page that lies in one shard.

    criteria: what read_criteria gave, where somebody has it already.
    """
    results = list(results)
    scores = _read_scores(results, read_criteria(run) if criteria is None else criteria)
    rows = rows_at(run, (result.row_index for result in results))
    return [_item(result, rows[result.row_index], scores[result.pk]) for result in results]


def _read_scores(
    results: Sequence[Result], criteria: Sequence[Criterion]
) -> dict[UUID, list[Judgement]]:
    """Read the scores of each result, in the order of the criteria.

    Without querysets, prefetching, joins and models, which together take ten times as long.
    """
    scores: dict[UUID, list[Judgement]] = {result.pk: [] for result in results}
    if not scores:
        return scores
    parameter = uuid_writer()
    result_ids = {parameter(pk): pk for pk in scores}
    by_pk = {parameter(one.pk): one for one in criteria}
    columns = ", ".join(Judgement._fields[:-1])
    # A mark for each would take longer to be read than all scores.
    is_array = connection.features.has_native_uuid_field
    among = "= ANY(%s)" if is_array else f"IN ({', '.join(['%s'] * len(result_ids))})"
    query = f"SELECT {columns} FROM {Score._meta.db_table} WHERE result_id {among}"  # noqa: S608  names of our own
    with connection.cursor() as cursor:
        cursor.execute(query, [[*result_ids]] if is_array else [*result_ids])
        found = cursor.fetchall()
    for result_key, criterion_key, source, author, value, passed, *rest in found:
        result_id, criterion = result_ids[result_key], by_pk[criterion_key]
        verdict = None if passed is None else bool(passed)
        values = (result_id, criterion.pk, source, author, value, verdict, *rest, criterion)
        scores[result_id].append(Judgement(*values))
    if len(criteria) > 1:
        for judgements in scores.values():
            judgements.sort(key=_position)
    return scores


def _position(score: Judgement) -> int:
    return score.criterion.position


def read_pages(run: Run) -> Iterator[list[Item]]:
    """Yield all results of a run in the order of the rows, a page in memory at a time."""
    for page in pages_of(Result.objects.filter(run=run), ("row_index", "repeat"), PAGE):
        yield read_items(run, page)


def _item(result: Result, row: Row, scores: list[Judgement]) -> Item:
    return Item(
        result=result,
        item=row.item,
        sample=parse_json(result.sample) if result.sample else row.sample,
        exchange=parse_json(result.exchange) if result.exchange else {},
        scores=scores,
    )
