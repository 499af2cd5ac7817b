"""Intervals and progress are drawn from a report as its figures say."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from apps.evaluations.models import Criterion, Run
from apps.evaluations.reports import Counts, CriterionSummary, Summary
from evalplatform.web.charts import RunView, view_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def view(counts: Counts, *criteria: CriterionSummary, **fields: object) -> RunView:
    run = Run(**{"state": Run.State.RUNNING, "started_at": NOW - timedelta(seconds=10), **fields})
    expected = 100 if run.started_at else None
    return view_of(Summary(run, counts, expected, criteria, []), NOW)


def criterion(**sums: float) -> CriterionSummary:
    zeros = {"passed": 0, "failed": 0, "errored": 0, "scored": 0, "total": 0.0, "squares": 0.0}
    return CriterionSummary(Criterion(id=uuid4()), **{**zeros, **sums})


def test_what_is_errored_is_in_no_rate() -> None:
    shown = view(Counts(passed=3, failed=1, errored=6))
    assert (shown.rate.value, shown.rate.total, shown.scored) == (0.75, 4, 4)
    assert shown.bar is not None
    assert shown.bar.low < shown.bar.at == 75 < shown.bar.high
    assert shown.bar.width == pytest.approx(shown.bar.high - shown.bar.low, abs=0.01)


def test_nothing_judged_has_no_bar_and_no_rate() -> None:
    shown = view(Counts(errored=2))
    assert (shown.rate.value, shown.bar, shown.scored, shown.mean) == (None, None, 0, None)


def test_the_rest_of_the_time_follows_the_pace_so_far() -> None:
    progress = view(Counts(passed=20)).progress
    assert (progress.done, progress.percent, progress.seconds) == (20, 20.0, 10.0)
    assert progress.left_seconds == 40


@pytest.mark.parametrize(
    ("counts", "fields"),
    [
        (Counts(), {}),
        (Counts(passed=20), {"state": Run.State.CANCELED, "finished_at": NOW}),
        (Counts(passed=20), {"retry_of_id": uuid4()}),
        (Counts(), {"started_at": None, "state": Run.State.QUEUED}),
    ],
)
def test_the_rest_is_not_guessed_without_a_pace(counts: Counts, fields: dict[str, object]) -> None:
    assert view(counts, **fields).progress.left_seconds is None


def test_a_clock_that_lags_gives_no_negative_time() -> None:
    assert view(Counts(), started_at=NOW + timedelta(seconds=3)).progress.seconds == 0


def test_scores_that_leave_the_scale_have_a_mean_but_no_bar() -> None:
    inside = criterion(scored=4, total=2, squares=1.5)
    outside = criterion(scored=2, total=9, squares=41)
    shown = view(Counts(unjudged=4), inside, outside)
    first, second = shown.criteria
    assert first.mean_bar is not None
    assert first.mean_bar.low >= 0
    assert (second.mean is not None, second.mean_bar) == (True, None)
    assert shown.mean is first
    assert shown.scored == 4


def test_one_score_has_a_mean_without_an_interval() -> None:
    (line,) = view(Counts(unjudged=1), criterion(scored=1, total=0.5, squares=0.25)).criteria
    assert line.mean is not None
    assert (line.mean.value, line.mean.standard_error) == (0.5, None)
    assert line.mean_bar is not None
    assert (line.mean_bar.low, line.mean_bar.at, line.mean_bar.high) == (50, 50, 50)
