"""Bring a run to its final state, once, with its counts rolled up from the shards."""

from uuid import UUID

from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from apps.evaluations.engine.tally import Tally
from apps.evaluations.models import Run, Shard
from apps.evaluations.models.webhooks import note_end
from apps.evaluations.signals import run_finished

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
        note_end(run_id, state, now)
        transaction.on_commit(lambda: run_finished.send(sender=Run, run_id=run_id))
    return True


def roll_up(run_id: UUID) -> dict[str, int | str]:
    """The run's own counters and tally as the sum of its shards'."""
    shards = Shard.objects.filter(run=run_id).order_by()
    sums = shards.aggregate(**{name: Sum(name, default=0) for name in COUNTERS})
    tally = Tally()
    for text in shards.exclude(tally="{}").values_list("tally", flat=True).iterator():
        tally.add(Tally.load(text))
    return {**sums, "tally": tally.dump()}


def complete_run(run_id: UUID) -> bool:
    """Complete a run of which no shard is left to work on."""
    if Shard.objects.filter(run=run_id, finished_at=None).exists():
        return False
    if not Run.objects.filter(pk=run_id, state=Run.State.RUNNING).exists():
        return False
    return finish_run(run_id, Run.State.COMPLETED)
