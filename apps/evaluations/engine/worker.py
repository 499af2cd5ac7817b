"""The worker: one event loop that claims while it has room, asks, grades, and hands on to store."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from apps.clients import Stopped
from apps.evaluations.engine.context import RunContext
from apps.evaluations.engine.coordinator import Assignments, Claim, Coordinator, WorkerState
from apps.evaluations.engine.plan import plan_run
from apps.evaluations.engine.source import Row
from apps.evaluations.engine.stopping import is_called_off
from apps.evaluations.engine.store import HeldShard, Outcome
from apps.evaluations.engine.targets import Answer, RecordedTarget, answer_safely
from apps.evaluations.engine.writer import Writer
from apps.evaluations.models import Run
from apps.grading.graders.base import Fault
from apps.ids import new_id
from apps.inference.limiters import EndpointLimiter
from apps.leases import close_connection

log = logging.getLogger(__name__)
T = TypeVar("T")

BUFFER_CAPACITY = 4_000  # outcomes that may wait for the writer before grading waits for it
GRADING_CAPACITY = 2_000  # rows of a run that may wait when no endpoint is asked,
GRADING_CAPACITY_OF_ALL = 8_000  # and of all such runs
FIRST_GRANT = 0  # no call before the table has granted one
YIELD_SECONDS = 0.02  # grading gives the loop its turn this often
POLL_SECONDS = 0.05  # the coordinator is asked no more often than this
DRAIN_AFTER_SLICE = 60  # calls in flight at a slice's end get this long
DRAIN_LOOK_SECONDS = 0.25
LEASE_SHARE = 0.9  # of a lease's time; in the rest calls are cut, before others take their slots

# Set while an item has its answer: what its judges ask belongs to what has begun.
_is_answered: ContextVar[bool] = ContextVar("_is_answered", default=False)


@dataclass(eq=False)
class Active:
    """A claimed shard at work."""

    claim: Claim
    held: HeldShard
    left: int
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def run_id(self) -> UUID:
        return self.claim.shard.run_id


class Worker:
    """One slice of work, over as many runs and endpoints as there is room for.

    Threads stand beside the loop, each with a database connection of its own: the coordinator
    claims, the planner plans, the writer stores, the keeper prolongs the leases even while grading
    keeps the loop busy.
    """

    def __init__(self) -> None:
        self.id = new_id()
        self._coordinator = Coordinator(self.id)
        self._writer = Writer(self._is_cut_off)
        self._threads = {
            name: ThreadPoolExecutor(1, thread_name_prefix=name)
            for name in ("coordinator", "writer", "planner", "batches")
        }
        self._active: dict[UUID, Active] = {}
        self._held: dict[UUID, HeldShard] = {}  # the active ones, and those not stored to the end
        self._limiters: dict[UUID, EndpointLimiter] = {}
        self._contexts: list[RunContext] = []  # those whose clients are open
        self._buffer: list[tuple[HeldShard, Outcome]] = []
        self._planning: asyncio.Future[None] | None = None
        self._began = time.monotonic()
        self._renewed_at = self._began
        self._is_draining = False
        self._is_isolating = False  # nothing may begin beside what is at work
        self._was_cut_off = False
        self._is_left = threading.Event()
        self.has_more = False

    def run(self) -> bool:
        """Work until the slice is over or nothing is left; whether there is more to do."""
        keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        try:
            self._coordinator.renew([], [])
            keeper.start()
            asyncio.run(self._work())
        finally:
            self._is_left.set()
            for pool in self._threads.values():
                pool.submit(close_connection)
                pool.shutdown()
            if keeper.is_alive():
                keeper.join()
        return self.has_more

    # --- the loop ---------------------------------------------------------------------------

    async def _work(self) -> None:
        self._wake = asyncio.Event()
        self._flush_soon = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        flusher = asyncio.create_task(self._flush_for_ever())
        watcher = asyncio.create_task(self._watch_leases())
        idle_since = time.monotonic()
        try:
            while True:
                # What ended during a poll may have made work that the poll was too early to see.
                was_busy = self._is_busy()
                assignments = await self._ask_coordinator()
                if assignments is not None:
                    self.has_more = assignments.has_more
                    self._apply(assignments)
                    await self._close_unused()
                waits = assignments is not None and assignments.is_waiting
                if was_busy or self._is_busy() or waits:
                    idle_since = time.monotonic()
                if self._is_over():
                    self.has_more = True  # for all we know: the last poll did not look
                    break
                if time.monotonic() - idle_since > settings.ENGINE_LINGER_SECONDS:
                    break
                await asyncio.sleep(POLL_SECONDS)
                await self._sleep_until_woken()
            await self._drain()
        finally:
            flusher.cancel()
            watcher.cancel()
            await self._in("writer", self._writer.store, self._take_buffer())
            await self._leave()

    def _is_busy(self) -> bool:
        return bool(self._active or self._planning or self._buffer)

    def _is_over(self) -> bool:
        slice_is_over = time.monotonic() - self._began > settings.ENGINE_SLICE_SECONDS
        return slice_is_over or is_called_off() or self._is_cut_off()

    def _is_cut_off(self) -> bool:
        """The leases were not prolonged for so long that others may soon take work and slots.

        Once so, for ever: a process that was frozen must not go on where it was when it thaws.
        """
        if time.monotonic() > self._cut_off_at():
            self._was_cut_off = True
        return self._was_cut_off

    def _cut_off_at(self) -> float:
        return self._renewed_at + LEASE_SHARE * settings.ENGINE_LEASE_SECONDS

    async def _watch_leases(self) -> None:
        """Once cut off, cut all calls: their slots may be somebody else's."""
        while not self._is_cut_off():
            await asyncio.sleep(max(POLL_SECONDS, self._cut_off_at() - time.monotonic()))
        log.warning("The leases could not be prolonged in time; what is at work is let go")
        for active in list(self._active.values()):
            self._drop(active)

    async def _sleep_until_woken(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), settings.ENGINE_LOOK_SECONDS)
        self._wake.clear()

    async def _in(self, thread: str, call: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads[thread], call, *arguments)

    async def _ask_coordinator(self) -> Assignments | None:
        try:
            return await self._in("coordinator", self._coordinator.poll, self._state())
        except DatabaseError:
            log.exception("The tables cannot be reached; trying again")
            await self._in("coordinator", close_connection)
            await asyncio.sleep(settings.ENGINE_LOOK_SECONDS)
            return None

    def _state(self) -> WorkerState:
        capacity: dict[UUID, int] = {}
        spare = GRADING_CAPACITY_OF_ALL
        wanted: dict[UUID, int] = {}
        for active in self._active.values():
            context = active.claim.context
            capacity.setdefault(active.run_id, self._capacity(context))
            capacity[active.run_id] -= active.left
            if not context.endpoints:
                spare -= active.left
            for endpoint_id in context.endpoints:
                wanted[endpoint_id] = wanted.get(endpoint_id, 0) + active.left
        if self._is_draining:
            wanted = {
                endpoint_id: limiter.demand for endpoint_id, limiter in self._limiters.items()
            }
        held = self._known()
        is_free = not held and self._planning is None
        self._is_isolating = self._is_isolating and not is_free
        may_begin = not (self._is_draining or self._is_over() or self._is_isolating)
        return WorkerState(
            capacity=capacity,
            spare=spare,
            slots={
                endpoint_id: (wanted.get(endpoint_id, 0), limiter.committed)
                for endpoint_id, limiter in self._limiters.items()
            },
            held=held,
            budget_requests={
                id(context): context.meter.budget_request()
                for context in self._contexts
                if context.endpoints
            },
            may_claim=may_begin,
            may_plan=may_begin and self._planning is None,
            is_free=is_free,
        )

    def _known(self) -> list[UUID]:
        """The shards that are at work here, or still to be stored. Any thread may ask."""
        return [pk for pk, held in self._held.copy().items() if held.is_open]

    def _capacity(self, context: RunContext) -> int:
        """How many items of a run are enough: those in flight, and for a poll of a fast server."""
        if not context.endpoints:
            return GRADING_CAPACITY
        return 3 * max(1, *(self._limiter(pk).granted for pk in context.endpoints))

    def _apply(self, assignments: Assignments) -> None:
        self._is_isolating = self._is_isolating or assignments.isolated
        for run_id in assignments.ended_runs:
            self._abandon(run_id)
        for endpoint_id, granted in assignments.grants.items():
            self._limiter(endpoint_id).resize(granted)
        for context in self._contexts:
            if (allowance := assignments.allowances.get(id(context))) is not None:
                context.meter.allow(allowance)
        for endpoint_id in assignments.left:
            if self._limiter(endpoint_id).is_idle:
                del self._limiters[endpoint_id]
        for claim in assignments.claims:
            self._begin(claim)
        if assignments.plan is not None:
            self._planning = asyncio.ensure_future(
                self._in("planner", self._plan, assignments.plan)
            )
            self._planning.add_done_callback(self._planned)
        if assignments.claims:
            self._wake.set()  # there may be room for more

    def _plan(self, run: Run) -> None:
        try:
            plan_run(run)
        except DatabaseError:
            log.exception("Planning run %s was interrupted; it will be taken up again", run.pk)
            connection.close()

    def _planned(self, planning: "asyncio.Future[None]") -> None:
        self._planning = None
        if not planning.cancelled() and planning.exception() is not None:
            log.error("Planning failed", exc_info=planning.exception())
        self._wake.set()

    async def _close_unused(self) -> None:
        """Close the clients of runs that no shard is held of; claimed again they open anew."""
        used = {id(active.claim.context) for active in self._active.values()}
        for context in [one for one in self._contexts if id(one) not in used]:
            if context.meter.is_clear:
                self._contexts.remove(context)
                await context.close()

    # --- items --------------------------------------------------------------------------------

    def _begin(self, claim: Claim) -> None:
        context = claim.context
        if not context.is_connected:
            context.connect(
                self._limiter, self._must_not_call, partial(self._in, "batches"), self._wake.set
            )
            self._contexts.append(context)
        held = HeldShard(claim.shard, context.run, claim.tally, context.prices)
        active = Active(claim, held, left=len(claim.todo))
        self._active[claim.shard.pk] = active
        self._held[claim.shard.pk] = held
        if claim.isolated:
            self._spawn(active, self._work_one_by_one(active))
        elif context.asks:
            for row, repeat in claim.todo:
                self._spawn(active, self._answer_and_grade(active, row, repeat))
        else:
            self._spawn(active, self._grade_all(active))

    def _limiter(self, endpoint_id: UUID) -> EndpointLimiter:
        return self._limiters.setdefault(endpoint_id, EndpointLimiter(FIRST_GRANT))

    def _spawn(self, active: Active, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        active.tasks.add(task)
        task.add_done_callback(active.tasks.discard)
        task.add_done_callback(lambda done: self._ended(active, done))

    def _ended(self, active: Active, task: "asyncio.Task[None]") -> None:
        """A bug in one item must not keep its shard for ever: let go, and it counts as tried."""
        if task.cancelled() or task.exception() is None:
            return
        log.error("Working on %s failed", active.claim.shard, exc_info=task.exception())
        self._drop(active)

    def _must_not_call(self) -> bool:
        if is_called_off() or self._is_cut_off():
            return True
        return self._is_draining and not _is_answered.get()

    async def _answer_and_grade(self, active: Active, row: Row, repeat: int) -> None:
        if self._is_draining:
            return
        context = active.claim.context
        reserve = await context.meter.begin()
        try:
            target = active.claim.answers or context.target
            answer = await answer_safely(target, row, repeat)
            begun = _is_answered.set(True)
            outcome = await context.session.judge(row, repeat, answer)
            _is_answered.reset(begun)
            self._keep_outcome(active, outcome)
        except Stopped:
            return
        finally:
            context.meter.end(reserve)
        if not context.endpoints:
            await asyncio.sleep(0)  # a built-in model never waits, others should not for it
        if not self._has_room.is_set():
            await self._has_room.wait()

    async def _grade_all(self, active: Active) -> None:
        context = active.claim.context
        session, target = context.session, active.claim.answers or context.target
        assert isinstance(target, RecordedTarget)
        turn_ends = time.monotonic() + YIELD_SECONDS
        for row, repeat in active.claim.todo:
            if self._is_draining:
                return
            self._keep_outcome(active, session.grade(row, repeat, target.recorded(row, repeat)))
            if time.monotonic() > turn_ends:
                await asyncio.sleep(0)
                await self._has_room.wait()
                turn_ends = time.monotonic() + YIELD_SECONDS

    async def _work_one_by_one(self, active: Active) -> None:
        """Find the item that kills: each is alone in work, noted before and stored after."""
        shard, held, context = active.claim.shard, active.held, active.claim.context
        for row, repeat in active.claim.todo:
            if self._is_draining or self._must_not_call():
                return
            position = row.index * context.run.repeats + repeat
            if position == shard.suspect_position:
                fault = Fault("worker_died", "Every worker that took this item died of it.")
                self._keep_outcome(
                    active, context.session.grade(row, repeat, Answer(None, fault=fault))
                )
            else:
                await self._in("coordinator", self._coordinator.suspect, shard, position)
                await self._answer_and_grade(active, row, repeat)
            while not held.is_lost and held.progress.done < held.size - active.left:
                self._flush_soon.set()
                await asyncio.sleep(settings.ENGINE_FLUSH_SECONDS / 50)

    def _keep_outcome(self, active: Active, outcome: Outcome) -> None:
        # What ends after a cut may have ended by it: a call too late for a process that was frozen.
        if active.held.is_lost or self._is_cut_off():
            return
        self._buffer.append((active.held, outcome))
        meter = active.claim.context.meter
        if not meter.is_free:
            meter.spend(outcome)
        active.left -= 1
        if len(self._buffer) >= BUFFER_CAPACITY:
            self._has_room.clear()
            self._flush_soon.set()
        if active.left == 0:
            del self._active[active.claim.shard.pk]
            self._wake.set()
            if not self._active:
                self._flush_soon.set()
        elif active.left % 16 == 0:
            self._wake.set()

    def _abandon(self, run_id: UUID) -> None:
        """A run has ended elsewhere: its calls are cut and nothing more of it is stored."""
        for active in [one for one in self._active.values() if one.run_id == run_id]:
            active.claim.context.is_stopped = True
            self._drop(active)

    def _drop(self, active: Active) -> None:
        """Work on a shard no longer, nor store it, nor prolong its lease."""
        active.held.is_lost = True
        if self._active.get(active.claim.shard.pk) is active:
            del self._active[active.claim.shard.pk]
        for task in active.tasks:
            task.cancel()
        self._wake.set()

    # --- storing ------------------------------------------------------------------------------

    async def _flush_for_ever(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._flush_soon.wait(), settings.ENGINE_FLUSH_SECONDS)
            self._flush_soon.clear()
            if self._buffer:
                taken = self._take_buffer()
                await self._in("writer", self._writer.store, taken)
                self._settle(taken)
                self._has_room.set()
                for active in [one for one in self._active.values() if one.held.is_lost]:
                    self._drop(active)
                self._held = {pk: held for pk, held in self._held.items() if held.is_open}
                self._wake.set()

    def _settle(self, stored: list[tuple[HeldShard, Outcome]]) -> None:
        meters = {one.run.pk: one.meter for one in self._contexts if not one.meter.is_free}
        if not meters:
            return
        for held, outcome in stored:
            if (meter := meters.get(held.run.pk)) is not None:
                meter.settle(outcome)

    def _take_buffer(self) -> list[tuple[HeldShard, Outcome]]:
        taken, self._buffer = self._buffer, []
        return taken

    # --- the end ------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Begin nothing more, wait for what has begun, and let go of the rest."""
        self._is_draining = True
        for limiter in self._limiters.values():
            if limiter.in_use == 0:
                limiter.dismiss()  # without a slot to wait for
        for context in self._contexts:
            context.meter.dismiss()
        bound = settings.ENGINE_DRAIN_SECONDS if is_called_off() else DRAIN_AFTER_SLICE
        ends_at = time.monotonic() + bound
        while (tasks := self._tasks()) and time.monotonic() < ends_at:
            await asyncio.wait(tasks, timeout=DRAIN_LOOK_SECONDS)
            if (assignments := await self._ask_coordinator()) is not None:
                self._apply(assignments)
            if is_called_off():
                ends_at = min(ends_at, time.monotonic() + settings.ENGINE_DRAIN_SECONDS)
        for task in self._tasks():
            task.cancel()
        if self._planning is not None:
            await asyncio.wait([self._planning], timeout=max(0.0, ends_at - time.monotonic()))

    def _tasks(self) -> list["asyncio.Task[None]"]:
        return [task for active in self._active.values() for task in active.tasks]

    async def _leave(self) -> None:
        held = [active.claim.shard for active in self._active.values()]
        self._active.clear()
        requests = [context.meter.budget_request(is_leaving=True) for context in self._contexts]
        await self._close_unused()
        try:
            await self._in("coordinator", self._coordinator.release, held)
            await self._in("coordinator", self._coordinator.leave, requests)
        except DatabaseError:
            log.exception("Could not sign off; the leases will run out by themselves")

    def _keep(self) -> None:
        """The keeper's thread: prolong the leases while the slice may last, not for ever."""
        last = settings.ENGINE_SLICE_SECONDS + DRAIN_AFTER_SLICE
        while not self._is_left.wait(settings.ENGINE_RENEW_SECONDS):
            if time.monotonic() - self._began > last:
                break
            began = time.monotonic()
            if self._is_cut_off():
                break
            try:
                self._coordinator.renew(self._known(), list(self._limiters.copy()))
                self._renewed_at = began
            except DatabaseError:
                log.exception("Leases could not be prolonged; trying again")
                connection.close()
        connection.close()
