"""Sum up runs: results by state, sums by criterion, the use of models and its cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from uuid import UUID

from apps.evaluations.costs import NOTHING, Cost, PriceList, money_of
from apps.evaluations.models import Criterion, Run
from apps.evaluations.reports.criteria import criteria_of_runs, key_of_criteria
from apps.evaluations.reports.live_sums import Sums, sum_shards
from apps.evaluations.tally import (
    ERRORED,
    FAILED,
    PASSED,
    SCORED,
    SQUARES,
    TOTAL,
    Tally,
)


@dataclass(frozen=True)
class Counts:
    """Counts of a run's results so far, by state."""

    passed: int = 0
    failed: int = 0
    errored: int = 0
    unjudged: int = 0

    @property
    def done(self) -> int:
        return self.passed + self.failed + self.errored + self.unjudged


@dataclass(frozen=True)
class CriterionSummary:
    """A criterion's sums over a run. passed + failed is the n of its rate, scored that of its mean.

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
    """The calls and tokens of a model in a run, for answers and for judgements together."""

    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int


@dataclass(frozen=True)
class ModelCost:
    """The use of a model for answers, or for judgements, and its cost.

    amount: with six digits, None where no price is known.
    """

    usage: ModelUsage
    is_judging: bool
    amount: Decimal | None


@dataclass(frozen=True)
class Spending:
    """The cost of a run at the prices of its start, of its answers and of its judges."""

    models: Sequence[ModelCost] = ()
    answers: Cost = NOTHING
    judges: Cost = NOTHING

    @property
    def total(self) -> Cost:
        return self.answers + self.judges


@dataclass(frozen=True)
class Summary:
    """The sums of a run so far.

    expected: results in the end, None before it is planned. tally: the sums that all else is of.
    """

    run: Run
    counts: Counts
    expected: int | None
    criteria: Sequence[CriterionSummary]
    usage: Sequence[ModelUsage]
    tally: Tally = field(default_factory=Tally, repr=False)

    @cached_property
    def spending(self) -> Spending:
        # Not before it is asked for: a poll shows no prices, and does without the run's target.
        return _spending(self.run, self.tally)


def summarize(runs: Iterable[Run]) -> dict[UUID, Summary]:
    """Sum up runs, by their ids, in two queries however many there are.

    A final run's numbers stand on its row; a running one's are summed over its shards, where
    they are never older than the last stored results.
    """
    runs = list(runs)
    counts = {run.pk: _own_counts(run) for run in runs}
    tallies = {run.pk: Tally.load(run.tally) for run in runs if run.is_final}
    for run_id, sums in _live_sums(runs).items():
        counts[run_id], tallies[run_id] = Counts(*sums.counts), sums.tally
    criteria = criteria_of_runs(runs)
    return {
        run.pk: _summary(
            run,
            counts[run.pk],
            tallies.get(run.pk, Tally()),
            criteria[key_of_criteria(run)],
        )
        for run in runs
    }


def count_results(runs: Iterable[Run]) -> dict[UUID, Counts]:
    """Count the results of runs, by their ids, in one query; in none where no run is going."""
    runs = list(runs)
    counts = {run.pk: _own_counts(run) for run in runs}
    for run_id, sums in _live_sums(runs).items():
        counts[run_id] = Counts(*sums.counts)
    return counts


def _live_sums(runs: Iterable[Run]) -> Mapping[UUID, Sums]:
    return sum_shards([run for run in runs if run.state == Run.State.RUNNING])


def summary(run: Run) -> Summary:
    return summarize([run])[run.pk]


def _own_counts(run: Run) -> Counts:
    return Counts(run.passed_count, run.failed_count, run.errored_count, run.unjudged_count)


def _summary(run: Run, counts: Counts, tally: Tally, criteria: Sequence[Criterion]) -> Summary:
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
    return Summary(run, counts, expected, lines, usage, tally)


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
