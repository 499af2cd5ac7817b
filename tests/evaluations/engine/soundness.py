"""Recount what the engine counted: every counter must be what its rows say."""

from collections import Counter

import pytest
from django.db.models import QuerySet

from apps.evaluations.models import Column, Result, Run, Shard, column_key
from apps.evaluations.packing import PackedColumn, pack_columns
from apps.evaluations.tally import Tally

STATES = Result.State.values


def check_all_runs() -> None:
    """Fail unless every run's rows and counters agree, and completed runs are whole."""
    for run in Run.objects.all():
        check_run(run)


def check_run(run: Run) -> None:
    places = list(Result.objects.of_run(run).values_list("row_index", "repeat"))
    assert len(places) == len(set(places)), "a row has two results"
    _check_verdicts(run)
    for shard in run.shards.all():
        _check_shard(run, shard)
    if run.state == Run.State.COMPLETED:
        whole = {(row, repeat) for row in range(run.row_count) for repeat in range(run.repeats)}
        assert set(places) == whole
        assert run.total_count == len(whole)
        assert not run.shards.unfinished().exists()
    if run.is_final:
        assert _counters(run) == Counter(Result.objects.of_run(run).values_list("state", flat=True))
        _check_tally(Tally.load(run.tally), _recounted(run, Result.objects.of_run(run).all()))
        assert run.finished_at is not None


def _check_verdicts(run: Run) -> None:
    criteria = run.evaluation.criteria.filter(version=run.criteria_version).count()
    for result in Result.objects.of_run(run).all():
        verdicts = result.read_verdicts()
        assert len(verdicts) == criteria, "not one verdict per criterion"
        assert None not in verdicts, "a criterion that has said nothing"


def _check_shard(run: Run, shard: Shard) -> None:
    results = Result.objects.of_run(run).filter(
        row_index__gte=shard.first_row, row_index__lt=shard.first_row + shard.row_count
    )
    states = Counter(results.values_list("state", flat=True))
    assert _counters(shard) == states
    assert shard.done_count == states.total()
    assert (shard.finished_at is not None) == (shard.done_count == shard.row_count * run.repeats)
    _check_tally(Tally.load(shard.tally), _recounted(run, results))
    _check_columns(run, shard, results)


def _check_columns(run: Run, shard: Shard, results: "QuerySet[Result]") -> None:
    rows = results.in_order().values_list("verdicts", "scores")
    wanted = pack_columns(list(rows)) if shard.finished_at is not None else []
    keys = [column_key(run.number, index, shard.first_row) for index in range(len(wanted) or 1)]
    columns = Column.objects.filter(pk__in=keys).order_by("pk")
    kept = [
        PackedColumn(one.letters, None if one.numbers is None else bytes(one.numbers))
        for one in columns
    ]
    assert kept == wanted


def _counters(row: Run | Shard) -> Counter[str]:
    return +Counter({state: getattr(row, f"{state}_count") for state in STATES})


def _recounted(run: Run, results: "QuerySet[Result]") -> Tally:
    criteria = run.evaluation.criteria.filter(version=run.criteria_version).order_by("position")
    keys = [pk.hex for pk in criteria.values_list("pk", flat=True)]
    tally = Tally()
    for result in results:
        for key, verdict in zip(keys, result.read_verdicts(), strict=True):
            if verdict is not None:
                tally.judge(key, verdict.value, verdict.passed, verdict.is_errored)
    return tally


def _check_tally(kept: Tally, recounted: Tally) -> None:
    assert kept.criteria.keys() == recounted.criteria.keys()
    for criterion, sums in kept.criteria.items():
        assert sums == pytest.approx(recounted.criteria[criterion])
