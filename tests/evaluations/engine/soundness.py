"""Recount what the engine counted: every counter must be what its rows say."""

from collections import Counter

import pytest

from apps.evaluations.models import Result, Run, Score, Shard
from apps.evaluations.tally import Tally

STATES = Result.State.values


def check_all_runs() -> None:
    """Fail unless every run's rows and counters agree, and completed runs are whole."""
    for run in Run.objects.all():
        check_run(run)


def check_run(run: Run) -> None:
    places = list(Result.objects.filter(run=run).values_list("row_index", "repeat"))
    assert len(places) == len(set(places)), "a row has two results"
    _check_scores(run)
    for shard in run.shards.all():
        _check_shard(run, shard)
    if run.state == Run.State.COMPLETED:
        whole = {(row, repeat) for row in range(run.row_count) for repeat in range(run.repeats)}
        assert set(places) == whole
        assert run.total_count == len(whole)
        assert not run.shards.unfinished().exists()
    if run.is_final:
        assert _counters(run) == Counter(run.results.values_list("state", flat=True))
        _check_tally(Tally.load(run.tally), _recounted(run, Score.objects.filter(result__run=run)))
        assert run.finished_at is not None


def _check_scores(run: Run) -> None:
    criteria = run.evaluation.criteria.filter(version=run.criteria_version).count()
    machine = Score.objects.filter(result__run=run, source=Score.Source.MACHINE)
    counts = Counter(machine.values_list("result", flat=True))
    results = run.results.count()
    assert len(counts) == (results if criteria else 0), "a result without scores"
    assert set(counts.values()) <= {criteria}, "not one score per criterion"


def _check_shard(run: Run, shard: Shard) -> None:
    results = run.results.filter(
        row_index__gte=shard.first_row, row_index__lt=shard.first_row + shard.row_count
    )
    states = Counter(results.values_list("state", flat=True))
    assert _counters(shard) == states
    assert shard.done_count == states.total()
    assert (shard.finished_at is not None) == (shard.done_count == shard.row_count * run.repeats)
    scores = Score.objects.filter(result__in=results.values("pk"))
    _check_tally(Tally.load(shard.tally), _recounted(run, scores))


def _counters(row: Run | Shard) -> Counter[str]:
    return +Counter({state: getattr(row, f"{state}_count") for state in STATES})


def _recounted(run: Run, scores: "object") -> Tally:
    tally = Tally()
    for score in scores.filter(source=Score.Source.MACHINE):  # type: ignore[attr-defined]
        tally.judge(score.criterion_id.hex, score.value, score.passed, score.is_errored)
    return tally


def _check_tally(kept: Tally, recounted: Tally) -> None:
    assert kept.criteria.keys() == recounted.criteria.keys()
    for criterion, sums in kept.criteria.items():
        assert sums == pytest.approx(recounted.criteria[criterion])
