"""Limiters: who waits at an endpoint is let in by turns, and no slot is lost."""

import asyncio
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from apps.inference.limiters import EndpointLimiter


class LimiterMachine(RuleBasedStateMachine):
    """A limiter with callers of three runs that come, go, give up while they wait, and are cut."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.limiter = EndpointLimiter(0)
        self.tasks: list[tuple[str, asyncio.Task[None]]] = []  # in the order they came
        self.holders: list[str] = []
        # How often others were let in while a run waited.
        self.passed_by: dict[str, Counter[str]] = {}

    def teardown(self) -> None:
        for _, task in self.tasks:
            task.cancel()
        self.step()
        self.loop.close()

    def step(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))
        waiting = {run for run, task in self.tasks if not task.done()}
        for run, task in self.tasks:
            if task.done() and not task.cancelled():
                self.holders.append(run)
                self.passed_by.pop(run, None)
                for other in waiting - {run}:
                    self.passed_by.setdefault(other, Counter())[run] += 1
        self.tasks = [(run, task) for run, task in self.tasks if not task.done()]
        for run in self.passed_by.keys() - {run for run, _ in self.tasks}:
            del self.passed_by[run]

    @rule(run=st.sampled_from("abc"))
    def come(self, run: str) -> None:
        self.tasks.append((run, self.loop.create_task(self.limiter.acquire(run))))
        self.step()

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        self.holders.remove(data.draw(st.sampled_from(self.holders)))
        self.limiter.release()
        self.step()

    @rule(granted=st.integers(0, 4))
    def resize(self, granted: int) -> None:
        # One at a time, so that the order in which callers are let in can be seen.
        while self.limiter.granted < granted:
            self.limiter.resize(self.limiter.granted + 1)
            self.step()
        self.limiter.resize(granted)
        self.step()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        _, task = data.draw(st.sampled_from(self.tasks))
        task.cancel()
        self.step()

    @precondition(lambda self: self.tasks and self.holders)
    @rule(data=st.data())
    def give_up_when_just_let_in(self, data: st.DataObject) -> None:
        run, task = data.draw(st.sampled_from(self.tasks))
        self.holders.pop()
        self.limiter.release()
        task.cancel()
        self.passed_by.pop(run, None)  # its turn had come
        self.step()

    @rule()
    def dismiss(self) -> None:
        self.limiter.dismiss()
        self.step()
        assert not self.tasks

    @invariant()
    def every_slot_is_accounted_for(self) -> None:
        assert self.limiter.in_use == len(self.holders)
        assert self.limiter.demand == len(self.holders) + len(self.tasks)
        assert self.limiter.committed >= self.limiter.in_use

    @invariant()
    def nobody_waits_for_a_slot_that_is_free(self) -> None:
        assert not self.tasks or self.limiter.in_use >= self.limiter.granted

    @invariant()
    def no_run_is_passed_by_twice_by_the_same(self) -> None:
        assert all(count <= 1 for others in self.passed_by.values() for count in others.values())


LimiterMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


test_limiter = LimiterMachine.TestCase


def test_a_smaller_grant_takes_effect_as_calls_end():
    async def scene() -> None:
        limiter = EndpointLimiter(2)
        await limiter.acquire("a")
        await limiter.acquire("a")
        third = asyncio.ensure_future(limiter.acquire("a"))
        limiter.resize(1)
        limiter.release()
        await asyncio.sleep(0)
        assert not third.done()
        limiter.release()
        await third
        assert limiter.in_use == 1

    asyncio.run(scene())
