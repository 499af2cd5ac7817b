"""Find what one worker works on next, fairly, and take it under a lease: shards, or a plan."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import Count

from apps.evaluations.engine.assignments import Assignments, Claim, WorkerState
from apps.evaluations.engine.close import finish_run
from apps.evaluations.engine.context import RunContext, open_context
from apps.evaluations.engine.plan import claim_plan
from apps.evaluations.engine.slot_shares import SlotShares
from apps.evaluations.engine.source import rows_by_shard
from apps.evaluations.models import Result, Run, Shard
from apps.evaluations.tally import Tally
from apps.evaluations.targets import Row
from apps.evaluations.targets.recorded import KeptAnswers
from apps.inference.attached_models import Unworkable
from apps.leases import clock, database_now, lease_end

log = logging.getLogger(__name__)

FIRST_CAPACITY = 128  # items of a run that a worker takes before it knows how fast they go
AT_ONCE = 16  # shards of one statement: what a worker that dies must leave to its leases' end
CLAIM_SECONDS = 0.25  # of claims in one poll: the loop waits to hear of a cancellation
HOPELESS = 3  # times ENGINE_ATTEMPTS claims in vain end a run


class Capacity:
    """Counts down what a poll may still claim: by run, and over all runs that ask no endpoint."""

    def __init__(self, state: WorkerState) -> None:
        self._of_run = dict(state.capacity)
        self._spare = state.spare

    def left(self, run_id: UUID, only_grades: bool, among: int) -> int:
        """Count the items that may still be claimed of a run; among: runs that share the rest."""
        left = self._of_run.get(run_id, FIRST_CAPACITY)
        return min(left, -(-self._spare // among)) if only_grades else left

    def take(self, run_id: UUID, items: int, only_grades: bool) -> None:
        self._of_run[run_id] = self._of_run.get(run_id, FIRST_CAPACITY) - items
        if only_grades:
            self._spare -= items


@dataclass(frozen=True)
class ShardSize:
    """The items of a run's shard, and the seconds that reading them takes."""

    items: int
    seconds: float

    def fit(self, items: int) -> int:
        """Count the shards of this size for so many items that can be read within a poll."""
        in_time = CLAIM_SECONDS / self.seconds if self.seconds else AT_ONCE
        return max(1, min(-(-items // self.items), int(in_time)))


class Claimer:
    """Claims for one worker; used in the coordinator's thread."""

    def __init__(self, worker: UUID, slots: SlotShares) -> None:
        self._worker = worker
        self._slots = slots
        self._contexts: dict[UUID, RunContext] = {}
        self._sizes: dict[UUID, ShardSize] = {}  # by run, of the shard that was last claimed
        # A run of which something must be worked alone: no other claim until that is possible.
        self._isolate_next: UUID | None = None
        self._plans_at = 0.0  # when it was last looked for runs to plan

    def forget_all_but(self, runs: Collection[UUID]) -> None:
        for run_id in self._contexts.keys() - runs:
            del self._contexts[run_id]
            self._sizes.pop(run_id, None)

    def claim(
        self, state: WorkerState, running: Mapping[UUID, UUID], assignments: Assignments
    ) -> None:
        """Fill in the plan and the claims, as far as the worker's state allows.

        running: the runs at work with their accounts, the oldest first.
        """
        if self._isolate_next is not None and not state.is_free:
            assignments.has_more = True
            return
        first, self._isolate_next = self._isolate_next, None
        if state.may_plan:
            self._claim_plan(state, assignments, first)
        if state.may_claim and not assignments.isolated and self._isolate_next is None:
            self._claim_shards(state, running, assignments, first)

    def _claim_plan(self, state: WorkerState, assignments: Assignments, first: UUID | None) -> None:
        """Claim the oldest run that nobody plans; where `first` is given, that one or none.

        A worker that has something to do looks only now and then, one that has not each time.
        """
        now = time.monotonic()
        if not state.is_free and now - self._plans_at < settings.ENGINE_LOOK_SECONDS / 2:
            return
        self._plans_at = now
        plannable = Run.objects.plannable(clock())
        run = (plannable if first is None else plannable.filter(pk=first)).first()
        if run is None:
            return
        # So many planners died of it that it must not take the shards of others along.
        isolated = run.plan_attempts >= settings.ENGINE_ATTEMPTS
        if isolated and not state.is_free:
            self._isolate_next = run.pk
        elif claim_plan(run) is not None:
            assignments.plan, assignments.isolated = run, isolated

    def _claim_shards(
        self,
        state: WorkerState,
        running: Mapping[UUID, UUID],
        assignments: Assignments,
        first: UUID | None,
    ) -> None:
        """Claim round by round, some shards of each run there is room for, while any are found.

        In a round the accounts with the least in work come first, then the oldest runs. A run that
        is alone may have AT_ONCE shards in a round, several have that many together.
        """
        capacity = Capacity(state)
        ends_at = time.monotonic() + CLAIM_SECONDS
        there_may_be = dict(running)
        load = self._load(running)
        while there_may_be:
            open_runs = [
                run_id
                for run_id in there_may_be
                if capacity.left(run_id, self._only_grades(run_id), 1) > 0
            ]
            if not open_runs:
                break
            open_runs.sort(key=lambda pk: (pk != first, load[running[pk]]))
            for run_id in open_runs:
                left = capacity.left(run_id, self._only_grades(run_id), len(open_runs))
                if left <= 0:
                    continue
                most = max(1, AT_ONCE // len(open_runs))
                is_free = state.is_free and assignments.plan is None and not assignments.claims
                before = len(assignments.claims)
                if not self._claim_of(run_id, left, most, state.held, is_free, assignments):
                    del there_may_be[run_id]
                for claim in assignments.claims[before:]:
                    capacity.take(run_id, len(claim.todo), self._only_grades(run_id))
                    load[running[run_id]] += 1
                is_late = time.monotonic() > ends_at
                if assignments.isolated or self._isolate_next is not None or is_late:
                    assignments.has_more = True
                    return
        # Of those that are left there was no room for all, or no slot.
        assignments.has_more = bool(there_may_be) or self._slots.is_waiting

    def _load(self, running: Mapping[UUID, UUID]) -> dict[UUID, int]:
        """Count the shards that each account has at work; those of a sole one need no counting."""
        load = dict.fromkeys(running.values(), 0)
        if len(load) > 1:
            held = Shard.objects.unfinished().filter(run__in=running, lease_until__gte=clock())
            load |= dict(held.order_by().values_list("account").annotate(Count("pk")))
        return load

    def _only_grades(self, run_id: UUID) -> bool:
        """Return whether the run's rows are through in no time; of a run not met yet: True."""
        context = self._contexts.get(run_id)
        return context is None or not context.endpoints

    def _claim_of(
        self,
        run_id: UUID,
        left: int,
        most: int,
        held: Collection[UUID],
        may_isolate: bool,
        assignments: Assignments,
    ) -> bool:
        """Claim shards of a run for about `left` items; False when there is nothing more to have.

        A run that cannot be worked on is ended.
        """
        try:
            # Before the claim: a shard claimed without slots would lie here under our lease.
            context = self._context(run_id)
            size = self._sizes.get(run_id)
            if context.endpoints:
                size = self._size_with_slots(context, size, held, assignments)
                if size is None:
                    return False
            count = min(most, size.fit(left)) if size else 1
            found = Shard.objects.take(run_id, self._worker, count, held)
            self._open_all(context, found.taken, assignments)
            if found.is_suspect_next and may_isolate and not found.taken:
                self._claim_alone(context, held, assignments)
            elif found.is_suspect_next:
                self._isolate_next = run_id
            return found.has_more
        except Unworkable as error:
            reason = str(error)
        except DatabaseError:
            raise
        except Exception as error:
            log.exception("Run %s cannot be worked on", run_id)
            reason = f"{type(error).__name__}: {error}"
        finish_run(run_id, Run.State.FAILED, "run_unworkable", reason[:2000])
        return False

    def _size_with_slots(
        self,
        context: RunContext,
        size: ShardSize | None,
        held: Collection[UUID],
        assignments: Assignments,
    ) -> ShardSize | None:
        """Return how large the run's shards are, where we have or get a slot at its endpoints."""
        # A shard that is there comes before a wish for slots: others would give theirs up.
        if size is None or not self._slots.has_all(context.endpoints):
            shard = Shard.objects.next_of(context.run.pk, clock(), held)
            if shard is None:
                return None
            size = ShardSize(shard.row_count * context.run.repeats, CLAIM_SECONDS)
        if not self._slots.holds_all(context.endpoints, size.items, assignments):
            return None
        return size

    def _open_all(
        self, context: RunContext, shards: Sequence[Shard], assignments: Assignments
    ) -> None:
        began = time.monotonic()
        for shard, rows in rows_by_shard(context.run, shards):
            assignments.claims.append(self._open(context, shard, rows))
        if shards:
            seconds = (time.monotonic() - began) / len(shards)
            items = max(shard.row_count for shard in shards) * context.run.repeats
            self._sizes[context.run.pk] = ShardSize(items, seconds)

    def _claim_alone(
        self, context: RunContext, held: Collection[UUID], assignments: Assignments
    ) -> None:
        """Claim a run's next shard, which is suspect, unless another was quicker."""
        now = database_now()
        shard = Shard.objects.next_of(context.run.pk, now, held)
        if shard is not None and Shard.objects.claim(shard, self._worker, now, lease_end(now)):
            ((_, rows),) = rows_by_shard(context.run, [shard])
            assignments.claims.append(self._open(context, shard, rows, isolated=True))
            assignments.isolated = True

    def _open(
        self, context: RunContext, shard: Shard, rows: Sequence[Row], isolated: bool = False
    ) -> Claim:
        """Gather what a claimed shard needs. Raises Unworkable, or whatever odd data leads to."""
        if shard.attempts > HOPELESS * settings.ENGINE_ATTEMPTS:
            raise Unworkable(f"Every worker that took {shard} died of it.")
        if len(rows) != shard.row_count:
            raise Unworkable(f"The source has lost some of {shard} since the run began.")
        done: set[tuple[int, int]] = set()
        if shard.done_count:
            stop = shard.first_row + shard.row_count
            results = Result.objects.in_rows(context.run, shard.first_row, stop)
            done = set(results.values_list("row_index", "repeat"))
        todo = [
            (row, repeat)
            for row in rows
            for repeat in range(context.run.repeats)
            if (row.index, repeat) not in done
        ]
        run, answers = context.run, None
        if run.answers_of_id is not None:
            answers = KeptAnswers.of(run.answers_of_id, shard, in_rows=not run.model)
        return Claim(shard, context, todo, Tally.load(shard.tally), isolated, answers)

    def _context(self, run_id: UUID) -> RunContext:
        context = self._contexts.get(run_id)
        if context is None:
            related = ("evaluation", "endpoint", "source_version")
            context = open_context(Run.objects.select_related(*related).get(pk=run_id))
            self._contexts[run_id] = context
        return context
