"""Mend what dead workers left: end runs that nobody ended, and drop what nobody holds any more."""

from apps.evaluations.engine.close import close_run
from apps.evaluations.engine.heartbeats import drop_old_heartbeats
from apps.evaluations.models import Run, Shard
from apps.inference.slots import drop_expired
from apps.leases import database_now


def sweep_runs() -> bool:
    """End runs that nobody ended; return whether there is work that somebody should be rung for."""
    now = database_now()
    is_work = Run.objects.plannable(now).exists()
    for run_id in list(Run.objects.filter(state=Run.State.RUNNING).values_list("pk", flat=True)):
        if not close_run(run_id):
            is_work = is_work or Shard.objects.free(now).filter(run=run_id).exists()
    drop_expired(now)
    drop_old_heartbeats(now)
    return is_work
