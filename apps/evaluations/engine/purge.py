"""Remove what was deleted, in pieces short enough to keep nobody waiting."""

from datetime import datetime

from django.db.models import Q
from django.utils import timezone
from django_q.models import Task

from apps.evaluations.models import Evaluation, Result, Run, Shard

PIECE = 1_000


def purge_runs(pieces: int = 5) -> int:
    """Remove some rows of deleted runs, at most `pieces` × PIECE results; return the pieces taken.

    A run that is being retried from is left until the retry has copied what it needs, and one
    whose answers are graded until that is done.
    """
    going = (Run.State.QUEUED, Run.State.RUNNING)
    gone = (
        Run.objects.filter(
            Q(deleted_at__lt=timezone.now()) | Q(evaluation__deleted_at__lt=timezone.now())
        )
        .exclude(retries__state=Run.State.QUEUED)
        .exclude(regrades__state__in=going)
    )
    done = 0
    for run in gone.order_by("pk")[:pieces]:
        while done < pieces:
            done += 1
            pks = list(Result.objects.of_run(run).in_order().values_list("pk", flat=True)[:PIECE])
            if not pks:
                _remove(run)
                break
            # Without model objects and signals, which nothing here listens to: millions may go.
            Result.objects.filter(pk__in=pks)._raw_delete("default")
    empty = Evaluation.objects.filter(deleted_at__lt=timezone.now(), runs=None)
    for evaluation in empty[:pieces]:
        evaluation.delete()
    return done


def _remove(run: Run) -> None:
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
