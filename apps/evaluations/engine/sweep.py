"""Mend what dead workers left: end runs that nobody ended, and drop what nobody holds any more."""

from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef, Q

from apps.evaluations.engine.close import close_run
from apps.evaluations.engine.heartbeats import drop_old_heartbeats
from apps.evaluations.models import Result, Run, Shard, UpkeepLease
from apps.evaluations.models.shards import ShardQuerySet
from apps.inference.slots import drop_expired
from apps.leases import clock

MOST_WANTED = 1_000  # workers that a sweep rings for
# Changed rows after which PostgreSQL is to look at a table: so many, and this part of it.
CHANGED_ROWS = 10_000
CHANGED_PART = 20


def is_elected() -> bool:
    """Return whether this machine sweeps and purges for all: while it keeps a lease on that."""
    return UpkeepLease.objects.take(settings.MACHINE_NAME)


def step_back() -> None:
    """Let another machine sweep, sooner than it would if this one died."""
    UpkeepLease.objects.give_up(settings.MACHINE_NAME)


def sweep_runs() -> int:
    """End runs that nobody ended; return how many workers could find something to do."""
    drop_expired(clock())
    drop_old_heartbeats(clock())
    if not Run.objects.unfinished().exists():
        return 0
    for run_id in _over():
        close_run(run_id)
    plans, shards = Run.objects.plannable(clock()), _free_shards()
    return plans[:MOST_WANTED].count() + shards[:MOST_WANTED].count()


def has_work() -> bool:
    """Return whether something could be claimed now; one query where no run is going."""
    if not Run.objects.unfinished().exists():
        return False
    return Run.objects.plannable(clock()).exists() or _free_shards().exists()


def _free_shards() -> ShardQuerySet:
    going = Run.objects.filter(state=Run.State.RUNNING)
    return Shard.objects.free(clock()).filter(run__in=going).order_by()


def _over() -> list[UUID]:
    """List the running runs with nothing left to do, and those that may not survive an error."""
    shards = Shard.objects.filter(run=OuterRef("pk")).order_by()
    is_done = ~Exists(shards.unfinished())
    may_fail = Q(on_error=Run.OnError.FAIL) & Exists(shards.filter(errored_count__gt=0))
    over = Run.objects.filter(is_done | may_fail, state=Run.State.RUNNING)
    return list(over.order_by("created_at", "id").values_list("pk", flat=True))


def refresh_statistics() -> None:
    """Refresh what PostgreSQL knows of results and shards when many were added, as by a large run.

    By itself it does so a minute later; until then it plans for a run of a hundred results, and
    reads whole tables for a page.
    """
    if connection.vendor != "postgresql":
        return
    tables = [model._meta.db_table for model in (Result, Shard)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT s.relname FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid"
            " WHERE s.relname = ANY(%s) AND s.n_mod_since_analyze >= %s"
            " AND s.n_mod_since_analyze * %s >= c.reltuples",
            [tables, CHANGED_ROWS, CHANGED_PART],
        )
        for (table,) in cursor.fetchall():
            cursor.execute(f"ANALYZE (SKIP_LOCKED) {table}")
