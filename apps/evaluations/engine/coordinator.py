"""What a worker does at the tables besides storing: claim, hold, share slots, let go."""

import logging
import os
import socket
import time
from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import transaction
from django.db.models import Count, F, Sum
from django.db.models.functions import Greatest, Now

from apps.evaluations.engine.close import close_run, finish_run
from apps.evaluations.engine.context import RunContext, open_context
from apps.evaluations.engine.plan import claim_plan
from apps.evaluations.engine.source import Row, shard_rows
from apps.evaluations.engine.spending import Allowance, BudgetKeeper, BudgetRequest, give_back_calls
from apps.evaluations.engine.targets import KeptTarget
from apps.evaluations.models import MachineHeartbeat, Result, Run, Shard, WorkerHeartbeat
from apps.evaluations.tally import Tally
from apps.inference.attached_models import Unworkable
from apps.inference.models import EndpointSlot
from apps.inference.slots import drop_expired, rebalance, release_all
from apps.leases import database_now, lease_end

log = logging.getLogger(__name__)

FIRST_CAPACITY = 128  # items of a run that a worker takes before it knows how fast they go
CLAIM_SECONDS = 0.25  # of claims in one poll: the loop waits to hear of a cancellation
REBALANCE_SECONDS = 1.0
HANDOVER_SECONDS = 0.2  # while slots pass from one worker to another, which neither can use
# Before a worker gives slots up to another, since they stand idle on the way and a run that is
# over by then has gained nothing.
YIELD_SLOTS_AFTER_SECONDS = 1.5
HOPELESS = 3  # times ENGINE_ATTEMPTS claims in vain end a run


@dataclass(frozen=True)
class Claim:
    """A shard this worker holds, with what is left to do in it: rows and the repeats of each.

    isolated: its items must be worked one by one. answers: those that another run got for it,
    where that one's are graded.
    """

    shard: Shard
    context: RunContext
    todo: list[tuple[Row, int]]
    tally: Tally
    isolated: bool = False
    answers: KeptTarget | None = None


@dataclass(frozen=True)
class WorkerState:
    """What the coordinator must know of the loop's state.

    capacity: how many more items each held run may have waiting here, FIRST_CAPACITY for other
    runs. spare: how many more rows may be in memory for runs that ask no endpoint. slots: per
    endpoint how many calls are wanted, and how many may be in flight before the next poll. held:
    the shards at work here. budget_requests: by the id of the context. may_claim: false while
    draining. may_plan: nobody plans. is_free: nothing is at work here, nor planned.
    """

    capacity: dict[UUID, int]
    spare: int
    slots: dict[UUID, tuple[int, int]]
    held: Collection[UUID]
    budget_requests: dict[int, BudgetRequest]
    may_claim: bool
    may_plan: bool
    is_free: bool


@dataclass
class Assignments:
    """What the loop must do next.

    left: endpoints whose slots were given back. isolated: what was claimed has been in vain so
    often that nothing else may be at work beside it, lest it take others with it, or the other
    way round.
    """

    claims: list[Claim] = field(default_factory=list)
    grants: dict[UUID, int] = field(default_factory=dict)
    allowances: dict[int, Allowance] = field(default_factory=dict)
    left: set[UUID] = field(default_factory=set)
    ended_runs: set[UUID] = field(default_factory=set)
    plan: Run | None = None
    isolated: bool = False
    has_more: bool = False  # there is work that this worker has no room for
    is_waiting: bool = False  # for slots that other workers hold


@dataclass(frozen=True)
class SlotRequest:
    """When slots at an endpoint were last asked for, with what, and how many were granted."""

    at: float
    wanted: int
    committed: int
    granted: int

    def is_due(self, wanted: int, committed: int) -> bool:
        """Has a wish grown that had been granted in full, or is it a while ago?"""
        if not wanted or self.wanted <= self.granted < wanted:
            return True
        waits = self.granted == 0 or committed < self.committed
        pause = HANDOVER_SECONDS if waits else REBALANCE_SECONDS
        return time.monotonic() - self.at >= pause


class Capacity:
    """What a poll may still claim: by run, and over all runs that ask no endpoint."""

    def __init__(self, state: WorkerState) -> None:
        self._capacity = dict(state.capacity)
        self._spare = state.spare

    def is_left(self, run_id: UUID, only_grades: bool) -> bool:
        return self._capacity.get(run_id, FIRST_CAPACITY) > 0 and not (
            only_grades and self._spare <= 0
        )

    def take(self, run_id: UUID, items: int, only_grades: bool) -> None:
        self._capacity[run_id] = self._capacity.get(run_id, FIRST_CAPACITY) - items
        if only_grades:
            self._spare -= items

    def close(self, run_id: UUID) -> None:
        self._capacity[run_id] = 0


class Coordinator:
    """One worker's dealings with the tables, in the coordinator's thread but for `renew`."""

    def __init__(self, worker: UUID) -> None:
        self.worker = worker
        self._contexts: dict[UUID, RunContext] = {}
        self._requests: dict[UUID, SlotRequest] = {}
        self._budget_keeper = BudgetKeeper()
        # What is wanted of endpoints at which there is no slot for us, and since when others
        # want some of ours.
        self._wishes: dict[UUID, int] = {}
        self._pressed_since: dict[UUID, float] = {}
        # A run of which something must be worked alone: no other claim until that is possible.
        self._isolate_next: UUID | None = None

    def poll(self, state: WorkerState) -> Assignments:
        assignments = Assignments()
        self._wishes.clear()
        assignments.ended_runs = self._ended(state.capacity.keys())
        for run_id in self._contexts.keys() - state.capacity.keys():
            del self._contexts[run_id]
        if self._isolate_next is not None and not state.is_free:
            assignments.has_more = True
        else:
            first, self._isolate_next = self._isolate_next, None
            if state.may_plan:
                self._plan(state, assignments, first)
            if state.may_claim and not assignments.isolated and self._isolate_next is None:
                self._claim(state, assignments, first)
        self._share_slots(state, assignments)
        assignments.allowances = self._budget_keeper.answer(state.budget_requests)
        assignments.is_waiting = bool(self._wishes)
        return assignments

    def _ended(self, held: Set[UUID]) -> set[UUID]:
        if not held:
            return set()
        going = Run.objects.filter(pk__in=held, state=Run.State.RUNNING)
        return set(held) - set(going.values_list("pk", flat=True))

    # --- claiming -----------------------------------------------------------------------------

    def _plan(self, state: WorkerState, assignments: Assignments, first: UUID | None) -> None:
        """Claim the oldest run that nobody plans, or `first` or none where that has to be first."""
        plannable = Run.objects.plannable(database_now())
        run = (plannable if first is None else plannable.filter(pk=first)).first()
        if run is None:
            return
        isolated = run.plan_attempts >= settings.ENGINE_ATTEMPTS
        if isolated and not state.is_free:
            self._isolate_next = run.pk
        elif claim_plan(run) is not None:
            assignments.plan, assignments.isolated = run, isolated

    def _claim(self, state: WorkerState, assignments: Assignments, first: UUID | None) -> None:
        """Claim round by round, a shard of each run there is room for, while anything is found.

        In a round the accounts with the least in work come first, then the oldest runs.
        """
        runs = self._going_runs()
        capacity = Capacity(state)
        ends_at = time.monotonic() + CLAIM_SECONDS
        found = True
        while found:
            found = False
            now = database_now()
            for run_id in self._in_fair_order(runs, first, now):
                if not capacity.is_left(run_id, self._only_grades(run_id)):
                    continue
                is_free = state.is_free and assignments.plan is None and not assignments.claims
                claim = self._claim_of(run_id, now, state.held, is_free, assignments)
                if claim is not None:
                    found = True
                    assignments.claims.append(claim)
                    assignments.isolated = claim.isolated
                    capacity.take(run_id, len(claim.todo), self._only_grades(run_id))
                else:
                    capacity.close(run_id)
                if (
                    assignments.isolated
                    or self._isolate_next is not None
                    or time.monotonic() > ends_at
                ):
                    assignments.has_more = True
                    return
        free = Shard.objects.free(database_now()).filter(run__in=[run_id for run_id, _ in runs])
        assignments.has_more = free.exists()

    def _going_runs(self) -> list[tuple[UUID, UUID]]:
        """The runs at work with their accounts, oldest first."""
        going = Run.objects.filter(state=Run.State.RUNNING).order_by("created_at", "id")
        return list(going.values_list("pk", "account_id"))

    def _in_fair_order(
        self, runs: list[tuple[UUID, UUID]], first: UUID | None, now: datetime
    ) -> list[UUID]:
        held = Shard.objects.unfinished().filter(
            run__in=[run_id for run_id, _ in runs], lease_until__gte=now
        )
        load = dict(held.order_by().values_list("account").annotate(Count("pk")))
        ordered = sorted(runs, key=lambda run: (run[0] != first, load.get(run[1], 0)))
        return [run_id for run_id, _ in ordered]

    def _only_grades(self, run_id: UUID) -> bool:
        """Is the run one whose rows are through in no time? Of a run not met yet: perhaps."""
        context = self._contexts.get(run_id)
        return context is None or not context.endpoints

    def _claim_of(
        self,
        run_id: UUID,
        now: datetime,
        held: Collection[UUID],
        may_isolate: bool,
        assignments: Assignments,
    ) -> Claim | None:
        shard = Shard.objects.next_of(run_id, now, held)
        if shard is None:
            return None
        isolated = shard.suspect_position is not None or shard.attempts >= settings.ENGINE_ATTEMPTS
        if isolated and not may_isolate:
            self._isolate_next = run_id
            return None
        try:
            if not self._has_slots(shard, assignments):
                return None
            if not Shard.objects.claim(shard, self.worker, now, lease_end(now)):
                return None
            return self._open(shard, isolated)
        except Unworkable as error:
            reason = str(error)
        except DatabaseError:
            raise
        except Exception as error:
            log.exception("Run %s cannot be worked on", run_id)
            reason = f"{type(error).__name__}: {error}"
        finish_run(run_id, Run.State.FAILED, "run_unworkable", reason[:2000])
        return None

    def _open(self, shard: Shard, isolated: bool) -> Claim:
        """Read what a claimed shard needs. Raises Unworkable, or whatever odd data leads to."""
        if shard.attempts > HOPELESS * settings.ENGINE_ATTEMPTS:
            raise Unworkable(f"Every worker that took {shard} died of it.")
        context = self._context(shard.run_id)
        rows = list(shard_rows(context.run, shard))
        if len(rows) != shard.row_count:
            raise Unworkable(f"The source has lost some of {shard} since the run began.")
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
        run, answers = context.run, None
        if run.answers_of_id is not None:
            answers = KeptTarget.of(run.answers_of_id, shard, in_rows=not run.model)
        return Claim(shard, context, todo, Tally.load(shard.tally), isolated, answers)

    def _context(self, run_id: UUID) -> RunContext:
        context = self._contexts.get(run_id)
        if context is None:
            related = ("evaluation", "endpoint", "source_version")
            context = open_context(Run.objects.select_related(*related).get(pk=run_id))
            self._contexts[run_id] = context
        return context

    def _has_slots(self, shard: Shard, assignments: Assignments) -> bool:
        """Have we slots, or get them at once, wherever the shard's items must wait for some?

        Else it is left to the workers that have them all: here it would lie.
        """
        context = self._context(shard.run_id)
        wanted = shard.row_count * context.run.repeats
        for endpoint_id in context.endpoints:
            request = self._requests.get(endpoint_id)
            if request is None or (not request.granted and request.is_due(wanted, 0)):
                request = self._request_slots(assignments, endpoint_id, wanted, 0)
            if not request.granted:
                self._wishes[endpoint_id] = wanted
                return False
        return True

    def _share_slots(self, state: WorkerState, assignments: Assignments) -> None:
        """Ask for slots at once where there may be more to have, else once in a while.

        What an earlier poll got and did not live to tell goes back.
        """
        slots = dict.fromkeys(self._requests, (0, 0)) | state.slots
        more = [*self._wishes.items()]
        for claim in assignments.claims:
            more += [(endpoint_id, len(claim.todo)) for endpoint_id in claim.context.endpoints]
        for endpoint_id, count in more:
            wanted, committed = slots.get(endpoint_id, (0, 0))
            slots[endpoint_id] = (wanted + count, committed)
        for endpoint_id, (wanted, committed) in slots.items():
            request = self._requests.get(endpoint_id)
            if request is None or request.is_due(wanted, committed):
                self._request_slots(assignments, endpoint_id, wanted, committed)

    def _request_slots(
        self, assignments: Assignments, endpoint_id: UUID, wanted: int, committed: int
    ) -> SlotRequest:
        now = time.monotonic()
        pressed_since = self._pressed_since.get(endpoint_id, now)
        grant = rebalance(
            endpoint_id,
            self.worker,
            wanted=wanted,
            committed=committed,
            gives_up=now - pressed_since >= YIELD_SLOTS_AFTER_SECONDS,
        )
        if grant.others_wait:
            self._pressed_since[endpoint_id] = pressed_since
        else:
            self._pressed_since.pop(endpoint_id, None)
        request = SlotRequest(now, wanted, committed, grant.slots)
        if wanted or committed:
            self._requests[endpoint_id] = request
            assignments.grants[endpoint_id] = grant.slots
        else:
            self._requests.pop(endpoint_id, None)
            assignments.grants.pop(endpoint_id, None)
            assignments.left.add(endpoint_id)
        return request

    def suspect(self, shard: Shard, position: int) -> None:
        """Note which item of a shard that kills its workers is alone in work now."""
        Shard.objects.filter(pk=shard.pk, lease_token=shard.lease_token).update(
            suspect_position=position
        )

    def release(self, shards: list[Shard]) -> None:
        """Give shards back unfinished; that was no death, so it is no attempt either."""
        for shard in shards:
            Shard.objects.unfinished().filter(pk=shard.pk, lease_token=shard.lease_token).update(
                lease_token=None,
                lease_until=None,
                worker=None,
                suspect_position=None,
                attempts=Greatest(F("attempts") - 1, 0),
            )

    def leave(self, requests: Iterable[BudgetRequest] = ()) -> None:
        """Sign off: nothing is held and nothing in flight."""
        for request in requests:
            give_back_calls(request.run.pk, request.surplus)
        release_all(self.worker)
        WorkerHeartbeat.objects.filter(worker=self.worker).delete()

    def renew(self, held: Collection[UUID], endpoints: Collection[UUID]) -> None:
        """Prolong these shards and the slots at these endpoints. Runs in the keeper's thread.

        What the tables give us but is not at work was lost on its way here: its lease must run
        out. Slots whose lease has run out may be granted to others by now and stay lost; what
        the time is, is asked by the very statement, for this process may be frozen before it.
        """
        until = lease_end(database_now())
        with transaction.atomic():
            # Locked in the writer's order, or each could wait for the other.
            shards = Shard.objects.held_by(self.worker).filter(pk__in=held)
            locked = shards.order_by("run_id", "pk").select_for_update()
            ours = list(locked.values_list("pk", flat=True))
            Shard.objects.filter(pk__in=ours).update(lease_until=until)
        slots = EndpointSlot.objects.filter(worker=self.worker, endpoint__in=endpoints)
        slots.filter(lease_until__gte=Now()).update(lease_until=until)
        WorkerHeartbeat.objects.update_or_create(
            worker=self.worker,
            defaults={"host": socket.gethostname(), "pid": os.getpid(), "seen_until": until},
        )


def sweep_runs() -> bool:
    """End runs that nobody ended; whether there is work that somebody should be rung for."""
    now = database_now()
    is_work = Run.objects.plannable(now).exists()
    for run_id in list(Run.objects.filter(state=Run.State.RUNNING).values_list("pk", flat=True)):
        if not close_run(run_id):
            is_work = is_work or Shard.objects.free(now).filter(run=run_id).exists()
    drop_expired(now)
    # An hour past its end a heartbeat tells nothing any more.
    WorkerHeartbeat.objects.filter(seen_until__lt=now - timedelta(hours=1)).delete()
    return is_work


def renew_machine(workers: int) -> None:
    """Say that this machine keeps workers ready."""
    MachineHeartbeat.objects.update_or_create(
        host=socket.gethostname(),
        defaults={"workers": workers, "seen_until": lease_end(database_now())},
    )


def ready_workers() -> int:
    """How many workers are kept ready, on all machines seen alive."""
    seen = MachineHeartbeat.objects.filter(seen_until__gte=database_now())
    return seen.aggregate(count=Sum("workers", default=0))["count"]


def busy_workers(host: str = "") -> int:
    """How many tasks are at work, on one machine or on all."""
    alive = WorkerHeartbeat.objects.filter(seen_until__gte=database_now())
    return (alive.filter(host=host) if host else alive).count()
