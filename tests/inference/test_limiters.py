"""Limiters: who waits at an endpoint is let in by turns, and neither slot nor permit is lost."""

import asyncio
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from apps.clients import GivenUp, Refusal, Remaining, Stopped
from apps.inference.limiters import EndpointLimiter, FirstCalls, RunLimiter, has_begun
from apps.inference.pacing import FREE, Permission


class LimiterMachine(RuleBasedStateMachine):
    """A limiter with callers of three runs that come, go, give up while they wait, and are cut."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.limiter = EndpointLimiter(0, wake=lambda: None)
        self.given = self.used = self.returned = 0  # permits, while each call needs one
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
            if task.done() and not task.cancelled() and task.exception() is None:
                self.used += self.limiter.permits is not None
                self.holders.append(run)
                self.passed_by.pop(run, None)
                for other in waiting - {run}:
                    self.passed_by.setdefault(other, Counter())[run] += 1
        self.tasks = [(run, task) for run, task in self.tasks if not task.done()]
        for run in self.passed_by.keys() - {run for run, _ in self.tasks}:
            del self.passed_by[run]

    async def acquire(self, run: str, begun: bool) -> None:
        has_begun.set(begun)
        await self.limiter.acquire(run)

    @rule(run=st.sampled_from("abc"), begun=st.booleans())
    def come(self, run: str, begun: bool) -> None:
        self.tasks.append((run, self.loop.create_task(self.acquire(run, begun))))
        self.step()

    @precondition(lambda self: self.holders)
    @rule()
    def be_refused(self) -> None:
        self.limiter.refused(Refusal(429, "Slow down.", 0.0))
        self.holders.pop()
        self.limiter.release()
        self.step()

    def report(self) -> None:
        if (report := self.limiter.report()) is not None:
            self.returned += report.returned

    @precondition(lambda self: self.limiter.permits is not None)
    @rule(permits=st.integers(0, 3))
    def be_permitted(self, permits: int) -> None:
        self.report()
        for _ in range(permits):
            self.given += 1
            self.limiter.permit(Permission(1))
            self.step()

    @precondition(lambda self: self.limiter.permits is not None)
    @rule()
    def be_free(self) -> None:
        self.report()
        granted, self.limiter.granted = self.limiter.granted, 0
        self.limiter.permit(FREE)
        self.given = self.used = self.returned = self.limiter._returned = 0
        self.resize(granted)

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
        self.limiter._give_up(GivenUp("No call was taken.", 429))
        self.limiter._given_up = None
        self.step()
        assert not self.tasks

    @invariant()
    def every_slot_is_accounted_for(self) -> None:
        assert self.limiter.in_use == len(self.holders)
        assert self.limiter.demand == len(self.holders) + len(self.tasks)
        assert self.limiter.committed >= self.limiter.in_use

    @invariant()
    def every_permit_is_accounted_for(self) -> None:
        left = (self.limiter.permits or 0) + self.limiter._returned + self.returned
        assert self.given == self.used + left

    @invariant()
    def nobody_waits_for_a_slot_that_is_free(self) -> None:
        is_full = self.limiter.in_use >= self.limiter.granted
        assert not self.tasks or is_full or self.limiter.permits == 0

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


def test_those_who_are_turned_away_hear_why_and_judgements_wait_on():
    async def scene() -> None:
        limiter = EndpointLimiter(0)
        new = asyncio.ensure_future(limiter.acquire("a"))
        await asyncio.sleep(0)
        has_begun.set(True)
        begun = asyncio.ensure_future(limiter.acquire("a"))
        await asyncio.sleep(0)
        limiter.dismiss()
        with pytest.raises(Stopped):
            await new
        limiter.permit(Permission(0, given_up="It took none.", status=429))
        with pytest.raises(GivenUp, match="It took none"):
            await begun
        with pytest.raises(GivenUp, match="It took none"):
            await limiter.acquire("a")

    asyncio.run(scene())


def test_judgements_come_before_what_has_not_begun():
    async def scene() -> None:
        limiter = EndpointLimiter(0)
        new = asyncio.ensure_future(limiter.acquire("a"))
        await asyncio.sleep(0)
        has_begun.set(True)
        begun = asyncio.ensure_future(limiter.acquire("a"))
        await asyncio.sleep(0)
        limiter.resize(1)
        await asyncio.sleep(0)
        assert (begun.done(), new.done()) == (True, False)
        new.cancel()

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("remaining", "is_held"),
    [
        (Remaining(calls=0, calls_reset_seconds=3), True),
        (Remaining(calls=1, calls_reset_seconds=3), True),  # the second call has taken it
        (Remaining(calls=2, calls_reset_seconds=3), False),
        (Remaining(calls=0, calls_reset_seconds=0.01), False),
        (Remaining(calls=0), False),
        (Remaining(tokens=19, tokens_reset_seconds=3), True),
        (Remaining(tokens=20, tokens_reset_seconds=3), False),
    ],
)
def test_what_a_server_says_is_left_holds_calls(remaining, is_held):
    async def scene() -> None:
        limiter = EndpointLimiter(4, wake=lambda: None)
        first = await limiter.acquire("a")
        await limiter.acquire("a")
        limiter.taken(0.0, 10)
        limiter.told(remaining, first)
        assert (limiter.permits == 0) == is_held
        report = limiter.report()
        assert (report is not None and report.hold_seconds == 3) == is_held

    asyncio.run(scene())


@pytest.mark.parametrize("status", [401, 403])
def test_nothing_is_sent_between_a_runs_fifth_denial_and_what_follows_from_it(status):
    async def scene() -> None:
        woken = []
        limiter = EndpointLimiter(8, wake=lambda: None)
        first = FirstCalls(lambda: woken.append(1))
        run = RunLimiter(limiter, "a", first)
        for _ in range(5):
            assert run.refused(Refusal(status, "Who are you?", 0.0))
        assert (first.is_open, first.words, woken) == (True, "Who are you?", [1])
        next_call = asyncio.ensure_future(run.acquire())
        await asyncio.sleep(0.01)
        assert not next_call.done()
        first.settle()
        await next_call
        # It was no first call after all: the endpoint is paused for everybody.
        assert limiter.permits is None
        run.refused(Refusal(status, "Who are you?", 0.0))
        assert limiter.permits == 0

    asyncio.run(scene())
