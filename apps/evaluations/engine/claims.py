"""Find what one worker works on next, fairly, and take it under a lease: shards, or a plan."""

import logging
import time
from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import Count

from apps.evaluations.engine.assignments import Assignments, Claim, WorkerState
from apps.evaluations.engine.close import finish_run
from apps.evaluations.engine.context import RunContext, open_context
from apps.evaluations.engine.plan import claim_plan
from apps.evaluations.engine.slot_shares import SlotShares
from apps.evaluations.engine.source import shard_rows
from apps.evaluations.models import Result, Run, Shard
from apps.evaluations.tally import Tally
from apps.evaluations.targets.recorded import KeptAnswers
from apps.inference.attached_models import Unworkable
from apps.leases import database_now, lease_end

log = logging.getLogger(__name__)

FIRST_CAPACITY = 128  # items of a run that a worker takes before it knows how fast they go
CLAIM_SECONDS = 0.25  # of claims in one poll: the loop waits to hear of a cancellation
HOPELESS = 3  # times ENGINE_ATTEMPTS claims in vain end a run


class Capacity:
    """Counts down what a poll may still claim: by run, and over all runs that ask no endpoint."""

    def __init__(self, state: WorkerState) -> None:
        self._of_run = dict(state.capacity)
        self._spare = state.spare

    def is_left(self, run_id: UUID, only_grades: bool) -> bool:
        if only_grades and self._spare <= 0:
            return False
        return self._of_run.get(run_id, FIRST_CAPACITY) > 0

    def take(self, run_id: UUID, items: int, only_grades: bool) -> None:
        self._of_run[run_id] = self._of_run.get(run_id, FIRST_CAPACITY) - items
        if only_grades:
            self._spare -= items

    def close(self, run_id: UUID) -> None:
        self._of_run[run_id] = 0


class Claimer:
    """Claims for one worker; used in the coordinator's thread."""

    def __init__(self, worker: UUID, slots: SlotShares) -> None:
        self._worker = worker
        self._slots = slots
        self._contexts: dict[UUID, RunContext] = {}
        # A run of which something must be worked alone: no other claim until that is possible.
        self._isolate_next: UUID | None = None

    def forget_all_but(self, runs: Collection[UUID]) -> None:
        for run_id in self._contexts.keys() - runs:
            del self._contexts[run_id]

    def claim(self, state: WorkerState, assignments: Assignments) -> None:
        """Fill in the plan and the claims, as far as the worker's state allows."""
        if self._isolate_next is not None and not state.is_free:
            assignments.has_more = True
            return
        first, self._isolate_next = self._isolate_next, None
        if state.may_plan:
            self._claim_plan(state, assignments, first)
        if state.may_claim and not assignments.isolated and self._isolate_next is None:
            self._claim_shards(state, assignments, first)

    def _claim_plan(self, state: WorkerState, assignments: Assignments, first: UUID | None) -> None:
        """Claim the oldest run that nobody plans; where `first` is given, that one or none."""
        plannable = Run.objects.plannable(database_now())
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
        self, state: WorkerState, assignments: Assignments, first: UUID | None
    ) -> None:
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
                is_late = time.monotonic() > ends_at
                if assignments.isolated or self._isolate_next is not None or is_late:
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
        """Return whether the run's rows are through in no time; of a run not met yet: True."""
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
            # Before the claim: a shard claimed without slots would lie here under our lease.
            context = self._context(run_id)
            wanted = shard.row_count * context.run.repeats
            if not self._slots.holds_all(context.endpoints, wanted, assignments):
                return None
            if not Shard.objects.claim(shard, self._worker, now, lease_end(now)):
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
