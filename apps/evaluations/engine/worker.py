"""The worker: one event loop that claims while it has room, asks, grades, and hands on to store."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from apps.bells import Listener
from apps.evaluations.engine.assignments import Assignments, WorkerState
from apps.evaluations.engine.context import RunContext
from apps.evaluations.engine.coordinator import Coordinator
from apps.evaluations.engine.items import ItemWork
from apps.evaluations.engine.keeper import DRAIN_AFTER_SLICE, DRAIN_HELD_UP, Keeper
from apps.evaluations.engine.outcome_buffer import OutcomeBuffer
from apps.evaluations.engine.plan import plan_run
from apps.evaluations.engine.process import new_event_loop
from apps.evaluations.engine.stopping import Lookout
from apps.evaluations.engine.store import HeldShard, Outcome
from apps.evaluations.engine.writer import Writer
from apps.evaluations.models import Run, Shard
from apps.ids import new_id
from apps.inference.learned_quirks import Learned
from apps.inference.limiters import EndpointLimiter
from apps.leases import close_connection

log = logging.getLogger(__name__)
T = TypeVar("T")

# Rows of a run that may wait when no endpoint is asked: no more, or a short run is one worker's.
GRADING_CAPACITY = 2_000
GRADING_CAPACITY_OF_ALL = 8_000  # rows of all such runs
FIRST_GRANT = 0  # no call before the table has granted one
POLL_SECONDS = 0.05  # the coordinator is polled no more often than this, unless there is a hurry
DRAIN_LOOK_SECONDS = 0.25  # while draining it is polled this often: a run may end meanwhile


class Worker:
    """Does one slice of work, on as many runs and endpoints as there is room for.

    Threads stand beside the loop, each with a database connection of its own: the coordinator
    claims, the planner plans, the writer stores, the keeper prolongs the leases even while grading
    keeps the loop busy.
    """

    def __init__(self) -> None:
        self.id = new_id()
        self._is_called_off = Lookout()
        self._coordinator = Coordinator(self.id)
        self._buffer = OutcomeBuffer()
        self._limiters: dict[UUID, EndpointLimiter] = {}
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._listener: Listener | None = None
        self._was_rung = False
        self._items = ItemWork(
            self._buffer,
            is_cut_off=self._is_cut_off,
            is_called_off=self._is_called_off,
            suspect=self._suspect,
            wake=self._wake.set,
            all_done=self._poll_at_once,
        )
        self._writer = Writer(self._is_cut_off)
        self._threads = {
            name: ThreadPoolExecutor(1, thread_name_prefix=name)
            for name in ("coordinator", "writer", "planner", "batches")
        }
        if settings.WORKER_CONNECTIONS == 1:
            # Each thread has a connection. Polls wait while results are stored, and vice versa.
            self._threads["writer"] = self._threads["coordinator"]
        self._keeper = Keeper(
            self.id,
            self._items.known,
            lambda: list(self._limiters.copy()),
            self._threads["coordinator"].submit,
        )
        self._contexts: list[RunContext] = []  # those whose clients are open
        self._learned: list[Learned] = []  # of contexts that are closed
        self._planning: asyncio.Future[None] | None = None
        self._is_isolating = False  # nothing may begin beside what is at work
        self.has_more = False

    def run(self) -> bool:
        """Work until the slice is over or nothing is left; return whether there is more to do."""
        try:
            self._keeper.start()
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(self._work())
        finally:
            # First, or it could say once more that we live after we have signed off.
            self._keeper.stop()
            for pool in self._threads.values():
                pool.submit(close_connection)
                pool.shutdown()
        return self.has_more

    async def _work(self) -> None:
        await self._listen()
        flusher = asyncio.create_task(self._flush_for_ever())
        watcher = asyncio.create_task(self._watch_leases())
        idle_since = time.monotonic()
        try:
            while True:
                # What ended during a poll may have made work that the poll was too early to see.
                was_busy = self._is_busy()
                assignments = await self._poll()
                if assignments is not None:
                    self.has_more = assignments.has_more
                    self._apply(assignments)
                    await self._end_denied()
                    await self._close_unused()
                waits = assignments is not None and assignments.is_waiting
                if was_busy or self._is_busy() or waits:
                    idle_since = time.monotonic()
                if self._is_over():
                    self.has_more = True  # for all we know: the last poll did not look
                    break
                if time.monotonic() - idle_since > settings.ENGINE_LINGER_SECONDS:
                    break
                await self._pause()
            await self._drain()
        finally:
            flusher.cancel()
            watcher.cancel()
            self._stop_listening()
            taken = self._buffer.take()
            await self._in("writer", self._writer.store, taken, self._take_learned())
            await self._leave()

    def _is_busy(self) -> bool:
        return bool(self._items.active or self._planning or self._buffer)

    def _is_over(self) -> bool:
        slice_is_over = time.monotonic() - self._keeper.began > settings.ENGINE_SLICE_SECONDS
        return slice_is_over or self._is_called_off() or self._is_cut_off()

    def _is_cut_off(self) -> bool:
        return self._keeper.is_cut_off()

    async def _watch_leases(self) -> None:
        """Cut all calls once the leases are cut off: their slots may be somebody else's."""
        while not self._is_cut_off():
            left = self._keeper.cut_off_at - time.monotonic()
            await asyncio.sleep(max(POLL_SECONDS, left))
        log.warning("The leases could not be prolonged in time; what is at work is let go")
        for active in list(self._items.active.values()):
            self._items.drop(active)

    async def _pause(self) -> None:
        """Wait until the coordinator is worth a poll.

        At once for a bell, for a plan, and when nothing is left at work; for all else POLL_SECONDS
        after the last one, when there is something to do, and after ENGINE_LOOK_SECONDS at the
        latest: others end runs without a word, and a bell may be lost.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), POLL_SECONDS)
        if not self._hurry.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._look_seconds())
        self._wake.clear()
        self._hurry.clear()

    def _look_seconds(self) -> float:
        asks = [limiter.seconds_to_ask for limiter in self._limiters.values()]
        return min([settings.ENGINE_LOOK_SECONDS, *asks])

    def _poll_at_once(self) -> None:
        self._hurry.set()
        self._wake.set()

    async def _listen(self) -> None:
        self._listener = await self._in("coordinator", Listener)
        descriptor = self._listener.fileno()
        if descriptor is not None:
            asyncio.get_running_loop().add_reader(descriptor, self._hear, descriptor)

    def _hear(self, descriptor: int) -> None:
        """Take a bell in; an ear that broke stays deaf for the rest of this slice."""
        assert self._listener is not None
        self._listener.drain()
        if self._listener.fileno() != descriptor:
            asyncio.get_running_loop().remove_reader(descriptor)
        self._was_rung = True
        # Who has something to do polls soon anyway, and need not for each of many bells.
        (self._wake.set if self._items.active else self._poll_at_once)()

    def _stop_listening(self) -> None:
        assert self._listener is not None
        if (descriptor := self._listener.fileno()) is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
        self._listener.close()

    async def _in(self, thread: str, call: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads[thread], call, *arguments)

    async def _suspect(self, shard: Shard, position: int) -> None:
        await self._in("coordinator", self._coordinator.suspect, shard, position)

    async def _poll(self) -> Assignments | None:
        try:
            return await self._in("coordinator", self._coordinator.poll, self._state())
        except DatabaseError:
            log.exception("The tables cannot be reached; trying again")
            await self._in("coordinator", close_connection)
            await asyncio.sleep(settings.ENGINE_LOOK_SECONDS)
            return None

    def _state(self) -> WorkerState:
        # Of those too of which nothing is left to work on: there may be more of them to claim.
        capacity = {context.run.pk: self._capacity(context) for context in self._contexts}
        spare = GRADING_CAPACITY_OF_ALL
        wanted: dict[UUID, int] = {}
        for active in self._items.active.values():
            context = active.claim.context
            capacity.setdefault(active.run_id, self._capacity(context))
            capacity[active.run_id] -= active.left
            if not context.endpoints:
                spare -= active.left
            for endpoint_id in context.endpoints:
                wanted[endpoint_id] = wanted.get(endpoint_id, 0) + active.left
        if self._items.is_draining:
            # Of what is at work only that wants a slot still which has one or waits for one.
            wanted = {endpoint_id: one.demand for endpoint_id, one in self._limiters.items()}
        held = self._items.known()
        is_free = not held and self._planning is None
        self._is_isolating = self._is_isolating and not is_free
        was_rung, self._was_rung = self._was_rung, False
        may_begin = not (self._items.is_draining or self._is_over() or self._is_isolating)
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
            reports={
                endpoint_id: report
                for endpoint_id, limiter in self._limiters.items()
                if (report := limiter.report()) is not None
            },
            denied=[one.run.pk for one in self._contexts if one.wants_to_end],
            was_rung=was_rung,
        )

    def _take_learned(self) -> list[Learned]:
        taken, self._learned = self._learned, []
        for context in self._contexts:
            taken += context.models.take_learned()
        return taken

    def _capacity(self, context: RunContext) -> int:
        """Count the items of a run that are enough: those in flight, and until the next poll."""
        if not context.endpoints:
            return GRADING_CAPACITY
        return 3 * max(1, *(self._limiter(pk).granted for pk in context.endpoints))

    def _limiter(self, endpoint_id: UUID) -> EndpointLimiter:
        limiter = self._limiters.get(endpoint_id)
        if limiter is None:
            limiter = EndpointLimiter(FIRST_GRANT, self._wake.set)
            self._limiters[endpoint_id] = limiter
        return limiter

    def _apply(self, assignments: Assignments) -> None:
        self._is_isolating = self._is_isolating or assignments.isolated
        for run_id in assignments.ended_runs:
            self._items.abandon(run_id)
        self._apply_limits(assignments)
        for claim in assignments.claims:
            self._connect(claim.context)
            self._items.begin(claim)
        if assignments.plan is not None:
            self._begin_plan(assignments.plan)
        if assignments.claims:
            self._wake.set()  # there may be room for more

    def _apply_limits(self, assignments: Assignments) -> None:
        for endpoint_id, granted in assignments.grants.items():
            self._limiter(endpoint_id).resize(granted)
        for endpoint_id, permission in assignments.permissions.items():
            self._limiter(endpoint_id).permit(permission)
        for context in self._contexts:
            if (is_denied := assignments.denied.get(context.run.pk)) is not None:
                context.is_denied = is_denied
                context.first_calls.settle()
            if (allowance := assignments.allowances.get(id(context))) is not None:
                context.meter.allow(allowance)
        for endpoint_id in assignments.left:
            # One that is in use since the poll began stays, and is asked for in the next.
            if self._limiter(endpoint_id).is_idle:
                del self._limiters[endpoint_id]

    def _connect(self, context: RunContext) -> None:
        if context.is_connected:
            return
        context.connect(
            self._limiter,
            self._items.must_not_call,
            partial(self._in, "batches"),
            self._wake.set,
        )
        self._contexts.append(context)

    def _begin_plan(self, run: Run) -> None:
        self._planning = asyncio.ensure_future(self._in("planner", self._plan, run))
        self._planning.add_done_callback(self._planned)

    def _plan(self, run: Run) -> None:
        try:
            plan_run(run)
        except DatabaseError:
            log.exception("Planning run %s was interrupted; it will be taken up again", run.pk)
        finally:
            # Most slices plan once, and connections are few.
            connection.close()

    def _planned(self, planning: "asyncio.Future[None]") -> None:
        self._planning = None
        if not planning.cancelled() and planning.exception() is not None:
            log.error("Planning failed", exc_info=planning.exception())
        self._poll_at_once()

    async def _end_denied(self) -> None:
        """End the runs whose calls are all denied, once those that were in flight are stored."""
        for context in [one for one in self._contexts if one.is_denied and not one.is_stopped]:
            if self._items.is_at_work(context.run.pk):
                continue
            taken = self._buffer.take()
            await self._in("writer", self._writer.store, taken)
            self._settle(taken)
            words = context.first_calls.words
            await self._in("coordinator", self._coordinator.deny, context.run.pk, words)
            self._items.abandon(context.run.pk)

    async def _close_unused(self) -> None:
        """Close the clients of runs that no shard is held of; claimed again they open anew."""
        used = {id(active.claim.context) for active in self._items.active.values()}
        for context in [one for one in self._contexts if id(one) not in used]:
            if context.meter.is_clear:
                self._contexts.remove(context)
                self._learned += context.models.take_learned()
                await context.close()

    async def _flush_for_ever(self) -> None:
        while True:
            await self._buffer.wait_until_due()
            if self._buffer:
                taken = self._buffer.take()
                await self._in("writer", self._writer.store, taken, self._take_learned())
                self._settle(taken)
                self._buffer.reopen()
                self._items.forget_stored()
                self._wake.set()

    def _settle(self, stored: list[tuple[HeldShard, Outcome]]) -> None:
        meters = {one.run.pk: one.meter for one in self._contexts if not one.meter.is_free}
        if not meters:
            return
        for held, outcome in stored:
            if (meter := meters.get(held.run.pk)) is not None:
                meter.settle(outcome)

    async def _drain(self) -> None:
        """Begin nothing more, wait for what has begun, and let go of the rest."""
        self._items.is_draining = True
        for limiter in self._limiters.values():
            # They would make no call when their turn came, and perhaps it never does.
            limiter.dismiss()
        for context in self._contexts:
            context.meter.dismiss()
        # Who is called off is killed soon; a slice that ends by itself has time for slow models.
        bound = settings.ENGINE_DRAIN_SECONDS if self._is_called_off() else DRAIN_AFTER_SLICE
        began = time.monotonic()
        ends_at = began + bound
        while (tasks := self._items.tasks()) and time.monotonic() < ends_at:
            await asyncio.wait(tasks, timeout=DRAIN_LOOK_SECONDS)
            if (assignments := await self._poll()) is not None:
                self._apply(assignments)
            if any(limiter.begun_waiting for limiter in self._limiters.values()):
                self._keeper.go_on()
                ends_at = max(ends_at, began + DRAIN_HELD_UP)
            if self._is_called_off():
                ends_at = min(ends_at, time.monotonic() + settings.ENGINE_DRAIN_SECONDS)
        for task in self._items.tasks():
            task.cancel()
        if self._planning is not None:
            await asyncio.wait([self._planning], timeout=max(0.0, ends_at - time.monotonic()))

    async def _leave(self) -> None:
        held = [(active.held, active.spent) for active in self._items.active.values()]
        self._items.active.clear()
        requests = [context.meter.budget_request(is_leaving=True) for context in self._contexts]
        await self._close_unused()
        try:
            await self._in("coordinator", self._coordinator.release, held)
            await self._in("coordinator", self._coordinator.leave, requests)
        except DatabaseError:
            log.exception("Could not sign off; the leases will run out by themselves")
