"""The reading side: what came of a run, as dataclasses."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Q, Sum

from apps.evaluations.costs import NOTHING, Cost, PriceList, money_of
from apps.evaluations.engine.source import Row, rows_at
from apps.evaluations.models import Criterion, Result, Run, Score, Shard
from apps.evaluations.tally import (
    ERRORED,
    FAILED,
    PASSED,
    SCORED,
    SQUARES,
    TOTAL,
    Tally,
)
from apps.leases import uuid_writer
from apps.strict_json import parse_json

PAGE = 500


@dataclass(frozen=True)
class Counts:
    """Results so far, by state."""

    passed: int = 0
    failed: int = 0
    errored: int = 0
    unjudged: int = 0

    @property
    def done(self) -> int:
        return self.passed + self.failed + self.errored + self.unjudged


@dataclass(frozen=True)
class CriterionSummary:
    """One criterion over a run. passed + failed is the n of its rate, scored that of its mean.

    total, squares: the sum of the values and of their squares.
    """

    criterion: Criterion
    passed: int
    failed: int
    errored: int
    scored: int
    total: float
    squares: float


@dataclass(frozen=True)
class ModelUsage:
    """What one model was asked in a run, for answers and for judgements together."""

    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int


@dataclass(frozen=True)
class ModelCost:
    """What one model was asked for answers, or else to judge, and what that cost.

    amount: with six digits, None where no price is known.
    """

    usage: ModelUsage
    is_judging: bool
    amount: Decimal | None


@dataclass(frozen=True)
class Spending:
    """What a run cost at the prices of its start: its answers, and apart from them its judges."""

    models: Sequence[ModelCost] = ()
    answers: Cost = NOTHING
    judges: Cost = NOTHING

    @property
    def total(self) -> Cost:
        return self.answers + self.judges


@dataclass(frozen=True)
class Summary:
    """A run so far; `expected` results in the end, None before it is planned."""

    run: Run
    counts: Counts
    expected: int | None
    criteria: Sequence[CriterionSummary]
    usage: Sequence[ModelUsage]
    spending: Spending = Spending()


def summarize(runs: Iterable[Run]) -> dict[UUID, Summary]:
    """Summaries by run id, in three queries however many runs there are.

    A final run's numbers stand on its row; a running one's are summed over its shards, where
    they are never older than the last stored results.
    """
    runs = list(runs)
    counts = count_results(runs)
    tallies = {run.pk: Tally.load(run.tally) for run in runs if run.is_final}
    if going := _going(runs):
        live = Shard.objects.filter(run__in=going, done_count__gt=0).order_by()
        for run_id, text in live.values_list("run", "tally").iterator():
            tallies.setdefault(run_id, Tally()).add(Tally.load(text))
    criteria: dict[tuple[UUID, int], list[Criterion]] = {}
    used = Criterion.objects.filter(
        evaluation__in={run.evaluation_id for run in runs},
        version__in={run.criteria_version for run in runs},
    )
    for criterion in used:
        key = (criterion.evaluation_id, criterion.version)
        criteria.setdefault(key, []).append(criterion)
    return {
        run.pk: _summary(
            run,
            counts[run.pk],
            tallies.get(run.pk, Tally()),
            criteria.get((run.evaluation_id, run.criteria_version), []),
        )
        for run in runs
    }


def count_results(runs: Iterable[Run]) -> dict[UUID, Counts]:
    """The counts alone, by run id: one query, and none where no run is going."""
    runs = list(runs)
    counts = {run.pk: _own_counts(run) for run in runs}
    if going := _going(runs):
        sums = (
            Shard.objects.filter(run__in=going, done_count__gt=0)
            .order_by()
            .values("run")
            .annotate(
                passed=Sum("passed_count"),
                failed=Sum("failed_count"),
                errored=Sum("errored_count"),
                unjudged=Sum("unjudged_count"),
            )
        )
        for row in sums:
            counts[row["run"]] = Counts(
                row["passed"], row["failed"], row["errored"], row["unjudged"]
            )
    return counts


def _going(runs: Iterable[Run]) -> list[UUID]:
    return [run.pk for run in runs if run.state == Run.State.RUNNING]


def summary(run: Run) -> Summary:
    return summarize([run])[run.pk]


def _own_counts(run: Run) -> Counts:
    return Counts(run.passed_count, run.failed_count, run.errored_count, run.unjudged_count)


def _summary(run: Run, counts: Counts, tally: Tally, criteria: list[Criterion]) -> Summary:
    lines = []
    for criterion in criteria:
        sums = tally.criteria.get(criterion.pk.hex, [0, 0, 0, 0, 0.0, 0.0])
        lines.append(
            CriterionSummary(
                criterion=criterion,
                passed=int(sums[PASSED]),
                failed=int(sums[FAILED]),
                errored=int(sums[ERRORED]),
                scored=int(sums[SCORED]),
                total=sums[TOTAL],
                squares=sums[SQUARES],
            )
        )
    usage = [ModelUsage(model, *sums) for model, sums in sorted(tally.models.items())]
    expected = run.total_count if run.started_at or run.is_final else None
    return Summary(run, counts, expected, lines, usage, _spending(run, tally))


def _spending(run: Run, tally: Tally) -> Spending:
    if not tally.models:
        return Spending()
    prices = PriceList.of(run.read_target())
    asked = ((tally.answering(), False), (tally.judging, True))
    costs = []
    for models, is_judging in asked:
        for model, sums in sorted(models.items()):
            picos = prices.cost(model, sums, judging=is_judging)
            amount = None if picos is None else money_of(picos)
            costs.append(ModelCost(ModelUsage(model, *sums), is_judging, amount))
    return Spending(costs, prices.of_answers(tally), prices.of_judges(tally))


class Judgement(NamedTuple):
    """A score as it is read in numbers: what Score has, without what makes it a model."""

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


@dataclass(frozen=True)
class Item:
    """A result with the row it came of and its verdicts, in the order of the criteria.

    sample: the answer as criteria saw it: asked for, or recorded in the row; None when there is
    none. exchange: what was asked and what it took; {} for a recorded answer.
    """

    result: Result
    item: dict[str, Any]
    sample: dict[str, Any] | None
    exchange: dict[str, Any]
    scores: Sequence[Judgement]


def read_criteria(run: Run) -> list[Criterion]:
    """What the run is judged by, in order."""
    return [
        *Criterion.objects.filter(
            evaluation=run.evaluation_id, version=run.criteria_version
        ).order_by("position")
    ]


def read_items(
    run: Run, results: Iterable[Result], criteria: Sequence[Criterion] | None = None
) -> list[Item]:
    """Results with their rows and scores: four queries for a page that lies in one shard.

    criteria: what read_criteria gave, where somebody has it already.
    """
    results = list(results)
    scores = _read_scores(results, read_criteria(run) if criteria is None else criteria)
    rows = rows_at(run, (result.row_index for result in results))
    return [_item(result, rows[result.row_index], scores[result.pk]) for result in results]


def _read_scores(
    results: Sequence[Result], criteria: Sequence[Criterion]
) -> dict[UUID, list[Judgement]]:
    """By result, in the order of the criteria.

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
        told = (result_id, criterion.pk, source, author, value, verdict, *rest, criterion)
        scores[result_id].append(Judgement(*told))
    if len(criteria) > 1:
        for judgements in scores.values():
            judgements.sort(key=_place)
    return scores


def _place(score: Judgement) -> int:
    return score.criterion.position


def read_pages(run: Run) -> Iterator[list[Item]]:
    """All of a run's results in the order of the rows, never more than a page in memory."""
    place = (-1, 0)
    while True:
        row, repeat = place
        beyond = Q(row_index__gt=row) | Q(row_index=row, repeat__gt=repeat)
        page = list(Result.objects.filter(beyond, run=run).in_order()[:PAGE])
        if page:
            yield read_items(run, page)
        if len(page) < PAGE:
            return
        place = (page[-1].row_index, page[-1].repeat)


def _item(result: Result, row: Row, scores: list[Judgement]) -> Item:
    return Item(
        result=result,
        item=row.item,
        sample=parse_json(result.sample) if result.sample else row.sample,
        exchange=parse_json(result.exchange) if result.exchange else {},
        scores=scores,
    )
