"""What a worker does at the tables besides storing: claim, hold, share places, let go."""

import os
import socket
from collections.abc import Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Count, Sum

from apps.evaluations.engine.close import complete_run, finish_run
from apps.evaluations.engine.context import RunContext, Unworkable, open_context
from apps.evaluations.engine.leases import database_now, lease_end
from apps.evaluations.engine.plan import claim_plan
from apps.evaluations.engine.slots import rebalance, release_all
from apps.evaluations.engine.source import Row, shard_rows
from apps.evaluations.engine.tally import Tally
from apps.evaluations.models import EndpointSlot, MachineBeat, Result, Run, Shard, WorkerBeat

FIRST_ROOM = 128  # items of a run that a worker takes before it knows how fast they go
ROUNDS = 8  # of claims in one tick, so that a tick stays short


@dataclass(frozen=True)
class Claim:
    """A shard this worker holds, with what is left to do in it: rows and the repeats of each."""

    shard: Shard
    context: RunContext
    todo: list[tuple[Row, int]]
    tally: Tally


@dataclass(frozen=True)
class View:
    """What the desk must know of the loop's state.

    room: how many more items each held run may have waiting here, FIRST_ROOM for other runs.
    places: per endpoint how many calls are wanted and how many are in flight. may_claim: false
    while draining. may_plan: nobody plans.
    """

    room: dict[UUID, int]
    places: dict[UUID, tuple[int, int]]
    may_claim: bool
    may_plan: bool


@dataclass
class Tick:
    """What the loop must do next."""

    claims: list[Claim] = field(default_factory=list)
    grants: dict[UUID, int] = field(default_factory=dict)
    ended_runs: set[UUID] = field(default_factory=set)
    plan: Run | None = None
    is_more: bool = False  # there is work that this worker has no room for


class Desk:
    """One worker's dealings with the tables; every method runs in the desk's own thread."""

    def __init__(self, worker: UUID) -> None:
        self.worker = worker
        self._contexts: dict[UUID, RunContext] = {}

    def tick(self, view: View) -> Tick:
        tick = Tick()
        tick.ended_runs = self._ended(view.room.keys())
        for run_id in self._contexts.keys() - view.room.keys():
            del self._contexts[run_id]
        if view.may_claim:
            self._claim(view, tick)
            if view.may_plan:
                tick.plan = claim_plan()
        for endpoint_id, (wanted, in_use) in view.places.items():
            tick.grants[endpoint_id] = rebalance(
                endpoint_id, self.worker, wanted=wanted, in_use=in_use
            )
        return tick

    def _ended(self, held: Set[UUID]) -> set[UUID]:
        if not held:
            return set()
        going = Run.objects.filter(pk__in=held, state=Run.State.RUNNING)
        return set(held) - set(going.values_list("pk", flat=True))

    def _claim(self, view: View, tick: Tick) -> None:
        """Claim round by round, a shard of each run there is room for, while anything is found.

        In a round the accounts with the least in work come first, then the oldest runs.
        """
        runs = self._going_runs()
        room = dict(view.room)
        for _ in range(ROUNDS):
            now = database_now()
            load = self._load([run_id for run_id, _ in runs], now)
            claimed = False
            for run_id, _ in sorted(runs, key=lambda run: load.get(run[1], 0)):
                if room.get(run_id, FIRST_ROOM) <= 0:
                    continue
                shard = Shard.objects.claim(run_id, self.worker, now, lease_end(now))
                if shard is None or (claim := self._open(shard)) is None:
                    room[run_id] = 0
                    continue
                tick.claims.append(claim)
                room[run_id] = room.get(run_id, FIRST_ROOM) - len(claim.todo)
                claimed = True
            if not claimed:
                break
        tick.is_more = any(
            Shard.objects.free(database_now()).filter(run=run_id).exists() for run_id, _ in runs
        )

    def _going_runs(self) -> list[tuple[UUID, UUID]]:
        """The runs at work with their accounts, oldest first."""
        going = Run.objects.filter(state=Run.State.RUNNING).order_by("created_at", "id")
        return list(going.values_list("pk", "account_id"))

    def _load(self, run_ids: list[UUID], now: datetime) -> dict[UUID, int]:
        """How many shards of each account are in work, on all workers."""
        held = Shard.objects.unfinished().filter(run__in=run_ids, lease_until__gte=now)
        return dict(held.order_by().values_list("account").annotate(Count("pk")))

    def _open(self, shard: Shard) -> Claim | None:
        """Read what a claimed shard needs; a run that cannot be worked on fails with the reason."""
        try:
            context = self._context(shard.run_id)
            rows = list(shard_rows(context.run, shard))
        except (Unworkable, ValueError, KeyError) as error:
            finish_run(shard.run_id, Run.State.FAILED, "run_unworkable", str(error)[:2000])
            return None
        done: set[tuple[int, int]] = set()
        if shard.done_count:
            results = Result.objects.filter(
                run=shard.run_id,
                row_index__gte=shard.first_row,
                row_index__lt=shard.first_row + shard.row_count,
            )
            done = set(results.values_list("row_index", "repeat"))
        todo = [
            (row, repeat)
            for row in rows
            for repeat in range(context.run.repeats)
            if (row.index, repeat) not in done
        ]
        return Claim(shard, context, todo, Tally.load(shard.tally))

    def _context(self, run_id: UUID) -> RunContext:
        context = self._contexts.get(run_id)
        if context is None:
            related = ("evaluation", "endpoint", "source_version")
            context = open_context(Run.objects.select_related(*related).get(pk=run_id))
            self._contexts[run_id] = context
        return context

    def suspect(self, shard: Shard, place: int) -> None:
        """Note which item of a shard that kills its workers is alone in work now."""
        Shard.objects.filter(pk=shard.pk, lease_token=shard.lease_token).update(suspect_place=place)

    def release(self, shards: list[Shard]) -> None:
        """Give shards back unfinished; that was no death, so it is no attempt either."""
        for shard in shards:
            Shard.objects.unfinished().filter(pk=shard.pk, lease_token=shard.lease_token).update(
                lease_token=None, lease_until=None, worker=None, attempts=0
            )

    def leave(self) -> None:
        """Sign off: nothing is held and nothing in flight."""
        release_all(self.worker)
        WorkerBeat.objects.filter(worker=self.worker).delete()

    def beat(self) -> None:
        """Prolong all that this worker holds. Runs in the keeper's thread."""
        until = lease_end(database_now())
        Shard.objects.held_by(self.worker).update(lease_until=until)
        EndpointSlot.objects.filter(worker=self.worker).update(lease_until=until)
        WorkerBeat.objects.update_or_create(
            worker=self.worker,
            defaults={"host": socket.gethostname(), "pid": os.getpid(), "seen_until": until},
        )


def sweep_runs() -> bool:
    """Close runs that nobody closed; whether there is work that somebody should be rung for."""
    now = database_now()
    is_work = Run.objects.plannable(now).exists()
    for run_id in list(Run.objects.filter(state=Run.State.RUNNING).values_list("pk", flat=True)):
        if not complete_run(run_id):
            is_work = is_work or Shard.objects.free(now).filter(run=run_id).exists()
    # An hour past its end a beat tells nothing any more.
    WorkerBeat.objects.filter(seen_until__lt=now - timedelta(hours=1)).delete()
    return is_work


def beat_machine(workers: int) -> None:
    """Say that this machine keeps workers ready."""
    MachineBeat.objects.update_or_create(
        host=socket.gethostname(),
        defaults={"workers": workers, "seen_until": lease_end(database_now())},
    )


def ready_workers() -> int:
    """How many workers are kept ready, on all machines seen alive."""
    seen = MachineBeat.objects.filter(seen_until__gte=database_now())
    return seen.aggregate(count=Sum("workers", default=0))["count"]


def busy_workers(host: str = "") -> int:
    """How many tasks are at work, on one machine or on all."""
    alive = WorkerBeat.objects.filter(seen_until__gte=database_now())
    return (alive.filter(host=host) if host else alive).count()
