"""Meters: what an item may begin with while calls or money are limited."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from apps.clients import BUDGET, CallFailed, Usage
from apps.evaluations.costs import PriceList
from apps.evaluations.engine.meters import Meter, Reserve
from apps.evaluations.engine.spending import Allowance
from apps.evaluations.engine.store import Outcome
from apps.evaluations.targets import Spent

TOKEN = 10**6  # picos of a token at a price of one for a million


def meter_of(*, max_calls: int | None = None, slots: int = 8) -> Meter:
    """A meter of a run of which each item takes one call, and whose model has a price."""
    prices = PriceList.of({"kind": "chat", "model": "m", "prices": {"prompt": "1.000000"}})
    run: Any = SimpleNamespace(max_calls=max_calls)
    meter = Meter(run, prices, per_item=1)
    meter.connect(lambda: slots, lambda: None)
    return meter


def costing(tokens: int) -> Outcome:
    usage = Usage(prompt_tokens=tokens, total_tokens=tokens)
    return Outcome(0, 0, None, None, None, [], [Spent("m", 1, usage)])


def money(tokens: int) -> Allowance:
    return Allowance(remaining_picos=tokens * TOKEN, is_looked_at=True)


async def settled() -> None:
    """Let every task go on as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


class Items:
    """Items that want to begin, each a task of its own."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.tasks: list[asyncio.Task[Reserve | None]] = []

    async def come(self, count: int = 1) -> None:
        self.tasks += [asyncio.create_task(self.meter.begin()) for _ in range(count)]
        await settled()

    @property
    def begun(self) -> list[Reserve | None]:
        return [task.result() for task in self.tasks if task.done() and not task.cancelled()]

    async def end(self, outcome: Outcome) -> None:
        """One of those at work ends and goes to the writer."""
        reserve = self.begun[0]
        self.tasks = [
            task for task in self.tasks if not task.done() or task.result() is not reserve
        ]
        self.meter.spend(outcome)
        self.meter.end(reserve)
        await settled()

    def leave(self) -> None:
        for task in self.tasks:
            task.cancel()


def scene(play: Any) -> None:
    asyncio.run(play())


def test_nothing_begins_before_the_coordinator_has_looked():
    async def play() -> None:
        items = Items(meter_of())
        await items.come(2)
        assert not items.begun
        items.meter.allow(money(5))
        await settled()
        assert items.begun
        items.leave()

    scene(play)


def test_while_costs_are_unknown_as_many_begin_as_have_slots():
    async def play() -> None:
        items = Items(meter_of(slots=3))
        items.meter.allow(money(1))
        await items.come(5)
        assert len(items.begun) == 3
        items.leave()

    scene(play)


def test_no_more_begin_than_what_is_left_pays_at_the_mean_cost():
    async def play() -> None:
        items = Items(meter_of())
        items.meter.allow(money(100))
        await items.come()
        await items.end(costing(40))
        # 60 are left: two at 40 each may be at work, since the first leaves 20 for the second.
        await items.come(4)
        assert len(items.begun) == 2
        await items.end(costing(40))
        # 20 are left, and one is at work that will take more.
        assert len(items.begun) == 1
        items.leave()

    scene(play)


def test_what_is_spent_between_question_and_answer_is_taken_off():
    async def play() -> None:
        items = Items(meter_of())
        items.meter.allow(money(100))
        await items.come()
        items.meter.budget_request()
        await items.end(costing(60))
        # The coordinator had looked before these 60 were spent.
        items.meter.allow(money(60))
        await items.come()
        assert not items.begun
        items.meter.budget_request()
        items.meter.allow(money(60))
        await settled()
        assert len(items.begun) == 1
        items.leave()

    scene(play)


@pytest.mark.parametrize("limit", ["money", "calls"])
def test_an_item_that_is_cut_as_it_begins_leaves_its_part_to_others(limit):
    async def play() -> None:
        if limit == "money":
            items = Items(meter_of(slots=1))
            items.meter.allow(money(100))
        else:
            items = Items(meter_of(max_calls=1))
            items.meter.allow(Allowance(calls=1, is_looked_at=True))
        await items.come(2)
        first, second = items.tasks
        assert (first.done(), second.done()) == (True, False)
        # Its turn comes, and it is cut before it hears of that.
        items.meter.end(first.result())
        second.cancel()
        await settled()
        assert second.cancelled()
        await items.come()
        assert items.tasks[-1].done()
        items.leave()

    scene(play)


def test_an_item_beyond_the_limit_is_refused_with_the_reason():
    async def play() -> None:
        items = Items(meter_of(max_calls=1))
        items.meter.allow(Allowance(calls=1, no_calls="They are used up.", is_looked_at=True))
        await items.come(2)
        assert [reserve.refused for reserve in items.begun] == ["", "They are used up."]

        async def refused() -> None:
            await items.meter.begin()
            await items.meter.before_call(0)

        with pytest.raises(CallFailed) as failure:
            await asyncio.create_task(refused())
        assert failure.value.code == BUDGET

    scene(play)
