"""Remove what was deleted, in pieces short enough to keep nobody waiting."""

import time
from collections.abc import Iterator
from datetime import datetime

from django.utils import timezone
from django_q.models import Task

from apps.evaluations.engine.columns import remove_columns
from apps.evaluations.models import Evaluation, Result, ResultVersion, Run, Shard

RUNS_AT_ONCE = 200
PIECE = 5_000  # results in one transaction: about as long as others may be kept waiting


def purge_runs(pieces: int | None = None, seconds: float | None = None) -> int:
    """Remove rows of deleted runs, the first deleted first; return how many went.

    pieces: at most so many transactions. seconds: begin none after so long. A run that is being
    retried from is left until the retry has copied what it needs, and one whose answers are graded
    until that is done.
    """
    ends_at = None if seconds is None else time.monotonic() + seconds
    removed = taken = 0
    for run in _gone():
        is_whole = False
        while not is_whole:
            if taken == pieces or (ends_at is not None and time.monotonic() > ends_at):
                return removed
            taken += 1
            count = _remove_results(run)
            is_whole = count < PIECE
            removed += count
        _remove(run)
        removed += 1
    for evaluation in Evaluation.objects.filter(deleted_at__lt=timezone.now(), runs=None)[:PIECE]:
        evaluation.delete()
    return removed


def _gone() -> Iterator[Run]:
    """Yield the deleted runs that nobody needs any more, then those of deleted evaluations."""
    now, going = timezone.now(), (Run.State.QUEUED, Run.State.RUNNING)
    free = Run.objects.exclude(retries__state=Run.State.QUEUED).exclude(regrades__state__in=going)
    # Two queries: for both conditions in one no index is of use.
    yield from free.filter(deleted_at__lt=now).order_by("deleted_at", "id")[:RUNS_AT_ONCE]
    evaluations = Evaluation.objects.filter(deleted_at__lt=now).order_by("deleted_at", "id")
    for evaluation in evaluations[:RUNS_AT_ONCE]:
        yield from free.filter(evaluation=evaluation).order_by("pk")[:RUNS_AT_ONCE]


def _remove_results(run: Run) -> int:
    """Remove the first results of a run, at most PIECE; return how many."""
    keys = list(Result.objects.of_run(run).in_order().values_list("pk", flat=True)[:PIECE])
    if keys:
        # Without model objects and signals, which nothing here listens to: millions may go.
        Result.objects.filter(pk__gte=keys[0], pk__lte=keys[-1])._raw_delete("default")
    return len(keys)


def _remove(run: Run) -> None:
    versions = ResultVersion.objects.of_run(run)
    while ids := list(versions.order_by().values_list("pk", flat=True)[:PIECE]):
        ResultVersion.objects.filter(pk__in=ids).delete()
    while remove_columns(run):
        pass
    while pks := list(
        Shard.objects.filter(run=run).order_by().values_list("pk", flat=True)[:PIECE]
    ):
        Shard.objects.filter(pk__in=pks).delete()
    run.delete()


def purge_tasks(before: datetime) -> bool:
    """Remove some of the queue's tasks that ended before then; return whether there may be more."""
    tasks = list(Task.objects.filter(stopped__lt=before).values_list("pk", flat=True)[:PIECE])
    Task.objects.filter(pk__in=tasks).delete()
    return len(tasks) == PIECE
