"""Work on the items of claimed shards: answer, judge and hand on, or let all of a shard go."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings

from apps.clients import Stopped
from apps.evaluations.engine.assignments import Claim
from apps.evaluations.engine.outcome_buffer import OutcomeBuffer
from apps.evaluations.engine.store import HeldShard, Outcome
from apps.evaluations.models import Shard
from apps.evaluations.targets import Answer, Row, Spent, Unfinished
from apps.evaluations.targets.base import Instant, answer_safely
from apps.grading.graders.base import Fault
from apps.inference.limiters import has_begun

log = logging.getLogger(__name__)

HELD_UP_SECONDS = 0.25  # how often an item looks whether its judges may be asked again
YIELD_SECONDS = 0.02  # grading gives the loop its turn this often


@dataclass(eq=False)
class Active:
    """A claimed shard at work.

    left: items of it that have no outcome yet. spent: on items that were called off without one.
    """

    claim: Claim
    held: HeldShard
    left: int
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    spent: list[Spent] = field(default_factory=list)

    @property
    def run_id(self) -> UUID:
        return self.claim.shard.run_id


class ItemWork:
    """The shards at work in a worker, item by item; belongs to its event loop.

    buffer: takes the outcomes. is_cut_off: the leases may be lost. is_called_off: the process is
    to stop. suspect: notes in the tables which item is alone in work. wake: called when the
    coordinator should be polled. all_done: called when nothing is left at work.
    """

    def __init__(
        self,
        buffer: OutcomeBuffer,
        *,
        is_cut_off: Callable[[], bool],
        is_called_off: Callable[[], bool],
        suspect: Callable[[Shard, int], Awaitable[None]],
        wake: Callable[[], None],
        all_done: Callable[[], None],
    ) -> None:
        self._buffer = buffer
        self._is_cut_off = is_cut_off
        self._is_called_off = is_called_off
        self._suspect = suspect
        self._wake = wake
        self._all_done = all_done
        self.active: dict[UUID, Active] = {}
        self._held: dict[UUID, HeldShard] = {}  # the active ones, and those not stored to the end
        self.is_draining = False

    def known(self) -> list[UUID]:
        """The shards that are at work here, or still to be stored. Any thread may ask."""
        # Copied in one step, which no other thread can come between.
        return [pk for pk, held in self._held.copy().items() if held.is_open]

    def forget_stored(self) -> None:
        """Let go of what the writer lost to others, and forget what it stored to the end."""
        for active in [one for one in self.active.values() if one.held.is_lost]:
            self.drop(active)
        self._held = {pk: held for pk, held in self._held.items() if held.is_open}

    def tasks(self) -> list["asyncio.Task[None]"]:
        return [task for active in self.active.values() for task in active.tasks]

    def is_at_work(self, run_id: UUID) -> bool:
        """Return whether an item of the run is still at work."""
        return any(active.tasks for active in self.active.values() if active.run_id == run_id)

    def must_not_call(self) -> bool:
        """Return whether a model may not be asked any more, in the task that asks this.

        While draining nothing begins, but an item that has its answer may still be judged: a
        second answer would cost more than a late end.
        """
        if self._is_called_off() or self._is_cut_off():
            return True
        return self.is_draining and not has_begun.get()

    def begin(self, claim: Claim) -> None:
        """Start on a claimed shard; its context is connected already."""
        context = claim.context
        held = HeldShard(claim.shard, context.run, claim.tally, context.prices)
        active = Active(claim, held, left=len(claim.todo))
        self.active[claim.shard.pk] = active
        self._held[claim.shard.pk] = held
        if claim.isolated:
            self._spawn(active, self._work_one_by_one(active))
        elif context.waits:
            for row, repeat in claim.todo:
                self._spawn(active, self._answer_and_grade(active, row, repeat))
        else:
            self._spawn(active, self._grade_all(active))

    def abandon(self, run_id: UUID) -> None:
        """Let a run go that has ended elsewhere: cut its calls and store nothing more of it."""
        for active in [one for one in self.active.values() if one.run_id == run_id]:
            active.claim.context.is_stopped = True
            self.drop(active)

    def drop(self, active: Active) -> None:
        """Work on a shard no longer, nor store it, nor prolong its lease."""
        active.held.is_lost = True
        if self.active.get(active.claim.shard.pk) is active:
            self._remove(active)
        for task in active.tasks:
            task.cancel()
        self._wake()

    def _remove(self, active: Active) -> None:
        del self.active[active.claim.shard.pk]
        if not self.active:
            self._all_done()

    def _spawn(self, active: Active, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        active.tasks.add(task)
        task.add_done_callback(active.tasks.discard)
        task.add_done_callback(lambda done: self._ended(active, done))

    def _ended(self, active: Active, task: "asyncio.Task[None]") -> None:
        """Let a shard go in which a bug ended an item; its lease runs out, and it counts as tried.

        Kept, it would stay at work here for ever.
        """
        if task.cancelled() or task.exception() is None:
            return
        log.error("Working on %s failed", active.claim.shard, exc_info=task.exception())
        self.drop(active)

    async def _answer_and_grade(self, active: Active, row: Row, repeat: int) -> None:
        if self.is_draining:
            return
        context = active.claim.context
        while context.is_held_up:
            # Its answer would wait for its judges, and be lost when this worker has to leave.
            await asyncio.sleep(HELD_UP_SECONDS)
            if self.is_draining:
                return
        reserve = await context.meter.begin()
        try:
            answerer = active.claim.answers or context.answerer
            answer = await answer_safely(answerer, row, repeat)
            begun = has_begun.set(True)
            outcome = await context.session.judge(row, repeat, answer)
            has_begun.reset(begun)
            self.keep(active, outcome)
        except Unfinished as unfinished:
            active.spent += unfinished.spent
            return
        except Stopped:
            return
        finally:
            context.meter.end(reserve)
        if not context.endpoints:
            await asyncio.sleep(0)  # a built-in model never waits, others should not for it
        await self._buffer.wait_for_room()

    async def _grade_all(self, active: Active) -> None:
        context = active.claim.context
        session, answerer = context.session, active.claim.answers or context.answerer
        assert isinstance(answerer, Instant)
        turn_ends = time.monotonic() + YIELD_SECONDS
        for row, repeat in active.claim.todo:
            if self.is_draining:
                return
            self.keep(active, session.grade(row, repeat, answerer.at_once(row, repeat)))
            if time.monotonic() > turn_ends:
                await asyncio.sleep(0)
                await self._buffer.wait_for_room()
                turn_ends = time.monotonic() + YIELD_SECONDS

    async def _work_one_by_one(self, active: Active) -> None:
        """Find the item that kills: each is alone in work, noted before and stored after."""
        shard, held, context = active.claim.shard, active.held, active.claim.context
        for row, repeat in active.claim.todo:
            if self.is_draining or self.must_not_call():
                return
            position = row.index * context.run.repeats + repeat
            if position == shard.suspect_position:
                fault = Fault("worker_died", "Every worker that took this item died of it.")
                self.keep(active, context.session.grade(row, repeat, Answer(None, fault=fault)))
            else:
                await self._suspect(shard, position)
                await self._answer_and_grade(active, row, repeat)
            # Not on to the next before this one is stored: storing takes the note away, and must
            # not take the next one's.
            while not held.is_lost and held.progress.done < held.size - active.left:
                self._buffer.hasten()
                await asyncio.sleep(settings.ENGINE_FLUSH_SECONDS / 50)

    def keep(self, active: Active, outcome: Outcome) -> None:
        """Hand an item's outcome on to be stored, unless the shard may be another's by now."""
        # What ends after a cut may have ended by it: a call too late for a process that was frozen.
        if active.held.is_lost or self._is_cut_off():
            return
        self._buffer.add(active.held, outcome)
        meter = active.claim.context.meter
        if not meter.is_free:
            meter.spend(outcome)
        active.left -= 1
        if active.left == 0:
            self._remove(active)
            self._wake()
            if not self.active:
                self._buffer.hasten()
        elif active.left % 16 == 0:
            self._wake()
