"""Bring a run to its final state, once, with its counts rolled up from the shards."""

from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet, Sum
from django.utils import timezone

from apps.clients.base import DENIED
from apps.evaluations.models import Result, Run, Shard
from apps.evaluations.signals import run_ending, run_finished
from apps.evaluations.tally import CALLS, Tally
from apps.inference.limiters import FIRST_CALLS

COUNTERS = ("passed_count", "failed_count", "errored_count", "unjudged_count")


def finish_run(run_id: UUID, state: str, error_code: str = "", error_message: str = "") -> bool:
    """Give an unfinished run its final state and freeze its counts; False when another was first.

    The state is taken before the shards are summed: whoever stores results checks the state
    under a lock, so nothing can be added between the sum and the end.
    """
    now = timezone.now()
    with transaction.atomic():
        taken = (
            Run.objects.unfinished()
            .filter(pk=run_id)
            .update(
                state=state,
                error_code=error_code,
                error_message=error_message,
                finished_at=now,
                updated_at=now,
                plan_token=None,
                plan_until=None,
            )
        )
        if not taken:
            return False
        Run.objects.filter(pk=run_id).update(**roll_up(run_id))
        run_ending.send(sender=Run, run_id=run_id, state=state, now=now)
        # After the commit: who hears of it looks at the tables.
        transaction.on_commit(lambda: run_finished.send(sender=Run, run_id=run_id))
    return True


def roll_up(run_id: UUID) -> dict[str, int | str]:
    """Sum up the shards' counters and tallies to the run's own."""
    shards = Shard.objects.filter(run=run_id).order_by()
    sums = shards.aggregate(**{name: Sum(name, default=0) for name in COUNTERS})
    return {**sums, "tally": _tally_of(run_id).dump()}


def _tally_of(run_id: UUID) -> Tally:
    shards = Shard.objects.filter(run=run_id).order_by()
    tally = Tally()
    for text in shards.exclude(tally="{}").values_list("tally", flat=True).iterator():
        tally.add(Tally.load(text))
    return tally


def is_denied(run_id: UUID) -> bool:
    """Return whether each call for an answer that is known of was denied, by 401 or 403."""
    run = Run.objects.get(pk=run_id)
    answering = _tally_of(run_id).answering().get(run.model)
    return (answering[CALLS] if answering else 0) == _denied(run).count()


def _denied(run: Run) -> QuerySet[Result]:
    return Result.objects.of_run(run).filter(error_code=DENIED).in_order()


def _words_of_denial(run: Run) -> str:
    """Return what the model server said to each of the run's first calls, if it denied them all.

    Workers end such a run when they hear it of five calls. A run of few rows may be over by then.
    """
    if run.endpoint_id is None or not run.shards.filter(errored_count__gt=0).exists():
        return ""
    first = list(_denied(run).values_list("error_message", flat=True)[:FIRST_CALLS])
    return first[0] if len(first) == FIRST_CALLS and is_denied(run.pk) else ""


def close_run(run_id: UUID) -> bool:
    """End a running run that has come to its end; False while it has not, or when it is over.

    It is completed when no shard is left to work on, and failed by its first errored item where
    it wants that, or when its model server denied all its calls.
    """
    run = Run.objects.filter(pk=run_id, state=Run.State.RUNNING).first()
    if run is None:
        return False
    if run.on_error == Run.OnError.FAIL and (errored := _first_errored(run)):
        code, message = _reason(errored)
        return finish_run(run_id, Run.State.FAILED, code, f"Row {errored.row_index}: {message}")
    if run.shards.unfinished().exists():
        return False
    if words := _words_of_denial(run):
        return finish_run(run_id, Run.State.FAILED, DENIED, words)
    return finish_run(run_id, Run.State.COMPLETED)


def _first_errored(run: Run) -> Result | None:
    # The shards' counters tell at once; results are looked through only when there is something.
    if not run.shards.filter(errored_count__gt=0).exists():
        return None
    return Result.objects.of_run(run).first_errored()


def _reason(errored: Result) -> tuple[str, str]:
    reason = errored.reason()
    if reason is None:
        return "errored", "it could not be judged."
    message = f"{reason.criterion}: {reason.message}" if reason.criterion else reason.message
    return reason.code, message
