"""Compute what pages draw of a report: rates and means with their intervals, and progress; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from apps.evaluations.models import Criterion, Run
from apps.evaluations.reports import CriterionSummary, Summary
from apps.grading.statistics import Mean, Rate, mean_from_sums, rate


@dataclass(frozen=True)
class Bar:
    """An estimate (`at`, None while unknown) and its interval on a scale from 0 to 100."""

    low: float
    high: float
    at: float | None

    @property
    def width(self) -> float:
        return round(self.high - self.low, 2)


@dataclass(frozen=True)
class Progress:
    """The progress of a run. expected, percent: None before it is planned. seconds: so far.

    left_seconds: the time to its end at the pace so far, None where that cannot be estimated.
    """

    done: int
    expected: int | None
    percent: float | None
    seconds: float | None
    left_seconds: float | None


@dataclass(frozen=True)
class CriterionLine:
    """A criterion's figures over a run. mean: only where scores say more than passed and failed."""

    criterion: Criterion
    rate: Rate
    bar: Bar | None
    errored: int
    mean: Mean | None
    mean_bar: Bar | None

    @property
    def failed(self) -> int:
        return self.rate.total - self.rate.passed


@dataclass(frozen=True)
class RunView:
    """A run with the figures that pages show of it."""

    run: Run
    summary: Summary
    progress: Progress
    rate: Rate
    bar: Bar | None
    criteria: Sequence[CriterionLine]

    @property
    def scored(self) -> int:
        """The number of results behind the run's own figure."""
        return self.mean.mean.count if self.mean and self.mean.mean else self.rate.total

    @property
    def has_means(self) -> bool:
        return any(line.mean for line in self.criteria)

    @property
    def mean(self) -> CriterionLine | None:
        """The criterion whose mean stands for a run in which nothing passes or fails: the first."""
        if self.rate.total:
            return None
        return next((line for line in self.criteria if line.mean), None)


def view_of(summary: Summary, now: datetime) -> RunView:
    counts = summary.counts
    overall = rate(counts.passed, counts.passed + counts.failed)
    return RunView(
        run=summary.run,
        summary=summary,
        progress=progress_of(summary, now),
        rate=overall,
        bar=_bar_of_rate(overall),
        criteria=[_line(one) for one in summary.criteria],
    )


def progress_of(summary: Summary, now: datetime) -> Progress:
    run, done, expected = summary.run, summary.counts.done, summary.expected
    percent = round(100 * done / expected, 2) if expected else None
    if run.started_at is None:
        return Progress(done, expected, percent, None, None)
    seconds = max(0.0, ((run.finished_at or now) - run.started_at).total_seconds())
    # A retry begins with results that took it no time.
    can_tell = expected and done and not run.is_final and run.retry_of_id is None
    left = seconds * (expected - done) / done if can_tell and expected else None
    return Progress(done, expected, percent, seconds, left)


def _line(one: CriterionSummary) -> CriterionLine:
    passes = rate(one.passed, one.passed + one.failed)
    # Ones and zeros are their own squares: then the mean says what the rate says.
    is_graded = one.scored > 0 and (one.total != one.squares or not passes.total)
    mean = mean_from_sums(one.scored, one.total, one.squares) if is_graded else None
    return CriterionLine(
        criterion=one.criterion,
        rate=passes,
        bar=_bar_of_rate(passes),
        errored=one.errored,
        mean=mean,
        mean_bar=_bar_of_mean(mean) if mean else None,
    )


def _bar_of_rate(rate: Rate) -> Bar | None:
    return _bar(rate.value, rate.low, rate.high) if rate.total else None


def _bar_of_mean(mean: Mean) -> Bar | None:
    """Make the bar of a mean, None for scores that leave the scale from 0 to 1."""
    if mean.value is None or not 0 <= mean.value <= 1:
        return None
    low = mean.value if mean.low is None else mean.low
    high = mean.value if mean.high is None else mean.high
    return _bar(mean.value, max(0.0, low), min(1.0, high))


def _bar(value: float | None, low: float, high: float) -> Bar:
    at = None if value is None else round(100 * value, 2)
    return Bar(round(100 * low, 2), round(100 * high, 2), at)
