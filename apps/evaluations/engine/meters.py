"""Hold a run to its limits on one worker: each item reserves its calls before it begins."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from apps.clients import BUDGET, CallFailed
from apps.evaluations.costs import PriceList
from apps.evaluations.engine.spending import Allowance, BudgetRequest
from apps.evaluations.engine.store import Outcome
from apps.evaluations.models import Run

AHEAD = 3  # items may have their calls reserved for each slot at an endpoint


@dataclass
class Reserve:
    """The calls that an item may still make; a refused one makes none."""

    calls: int = 0
    refused: str = ""


@dataclass
class Waiting:
    """A request for calls that waits: of an item that would begin, or of one that needs another.

    answer: empty once they are taken, or why there will be none.
    """

    count: int
    is_item: bool
    answer: asyncio.Future[str]


# The item that is at work in this task, and in those that its judges are asked in.
_reserve: ContextVar[Reserve | None] = ContextVar("_reserve", default=None)


class Meter:
    """Counts what a run may still ask of models in this worker; belongs to one event loop.

    per_item: calls of an item without retries. slots: how many calls may be in flight. wake:
    called when the coordinator should be asked. An item begins once all its calls are reserved, so
    that a limit leaves few answered and not judged. While money is limited no more items are at
    work than have slots, and no more than what is left will pay at the mean cost so far: beyond
    a budget goes at most what the items in flight cost.
    """

    def __init__(self, run: Run, prices: PriceList, per_item: int) -> None:
        self.run = run
        self._prices = prices
        self._per_item = per_item
        self.is_free = per_item == 0
        self._limits_calls = run.max_calls is not None
        self._slots: Callable[[], int] = lambda: 1
        self._wake: Callable[[], None] = lambda: None
        self._pool = 0
        self._picos: int | None = 0  # nothing before the coordinator has looked
        self._no_calls = self._no_money = ""
        self._in_flight = 0
        self._unstored = 0  # picos of items that ended and are not known to be stored
        self._since_asked = 0  # picos of items that ended since the coordinator was asked
        self._ended_count = self._ended_picos = 0
        self._waiting: deque[Waiting] = deque()

    def connect(self, slots: Callable[[], int], wake: Callable[[], None]) -> None:
        self._slots, self._wake = slots, wake

    @property
    def is_clear(self) -> bool:
        """Tell whether no calls are held that another worker could make."""
        return not self._pool

    async def begin(self) -> Reserve | None:
        """Reserve an item's calls, waiting until they are there or there will be none."""
        if self.is_free:
            return None
        reason = self._refusal(self._per_item, is_item=True)
        if reason is None:
            reason = await self._wait(self._per_item, is_item=True)
        reserve = Reserve(refused=reason) if reason else Reserve(self._per_item)
        _reserve.set(reserve)
        return reserve

    def end(self, reserve: Reserve | None) -> None:
        """Give back the calls that an item did not need; others may begin with them."""
        if reserve is None or reserve.refused:
            return
        self._in_flight -= 1
        if self._limits_calls:
            self._pool += reserve.calls
        self._admit()

    def spend(self, outcome: Outcome) -> None:
        """Count what an item cost that goes to the writer."""
        picos = self._cost(outcome)
        self._unstored += picos
        self._since_asked += picos
        self._ended_count += 1
        self._ended_picos += picos
        if self._picos is not None:
            self._picos -= picos

    def settle(self, outcome: Outcome) -> None:
        """Count an item as stored: the sums at the tables tell of it from now on."""
        # Not below 0: what ended before there were limits was never added.
        self._unstored = max(0, self._unstored - self._cost(outcome))

    def _cost(self, outcome: Outcome) -> int:
        costs = (
            self._prices.cost(spent.model, spent.counts, judging=spent.judging)
            for spent in outcome.spent
        )
        return sum(cost or 0 for cost in costs)

    async def before_call(self, calls: int) -> None:
        """Take one call, waiting for it; raises CallFailed when there will be none.

        calls: those already made for the same reply, which the error tells of.
        """
        if self.is_free:
            return
        # Found by the task: a client knows nothing of items, and a judge's call is the item's too.
        reserve = _reserve.get()
        if reserve is not None and reserve.refused:
            raise CallFailed(BUDGET, reserve.refused, calls=calls)
        if not self._limits_calls:
            return
        if reserve is not None and reserve.calls:
            reserve.calls -= 1
            return
        # A retry: beyond what the item reserved, so it has to wait for one as an item does.
        reason = self._refusal(1, is_item=False)
        if reason is None:
            reason = await self._wait(1, is_item=False)
        if reason:
            raise CallFailed(BUDGET, reason, calls=calls)

    def _refusal(self, count: int, *, is_item: bool) -> str | None:
        """Take so many calls: empty when they are taken, None when that has to wait, or why not."""
        has_calls = not self._limits_calls or self._pool >= count
        if is_item and self._no_money:
            return self._no_money
        if not has_calls:
            return self._no_calls or None
        if is_item:
            if not self._can_pay():
                return None
            self._in_flight += 1
        if self._limits_calls:
            self._pool -= count
        return ""

    def _can_pay(self) -> bool:
        if self._picos is None:
            return True
        if self._picos <= 0 or self._in_flight >= self._slots():
            return False
        # What is at work will cost something too. The first item begins whatever the mean says,
        # or a run whose items became dear would stand still with money left.
        mean = self._ended_picos // self._ended_count if self._ended_count else 0
        return not self._in_flight or self._picos > self._in_flight * mean

    async def _wait(self, count: int, *, is_item: bool) -> str:
        one = Waiting(count, is_item, asyncio.get_running_loop().create_future())
        if is_item:
            self._waiting.append(one)
        else:
            # Items at work come first: others wait for them to end.
            self._waiting.appendleft(one)
        if self._pool < count or (self._picos is not None and self._picos <= 0):
            self._wake()
        try:
            return await one.answer
        except asyncio.CancelledError:
            # Cut in the moment between its turn and its going on: what it took is free again.
            if one.answer.done() and not one.answer.cancelled() and not one.answer.result():
                self._untake(one)
            raise

    def _untake(self, gone: Waiting) -> None:
        if self._limits_calls:
            self._pool += gone.count
        if gone.is_item:
            self._in_flight -= 1

    def _admit(self) -> None:
        """Answer those who wait, in their order, until one has to wait on.

        Nobody is passed by, or an item that needs many calls would wait for ever.
        """
        while self._waiting:
            first = self._waiting[0]
            if not first.answer.done():
                reason = self._refusal(first.count, is_item=first.is_item)
                if reason is None:
                    return
                first.answer.set_result(reason)
            self._waiting.popleft()

    def budget_request(self, *, is_leaving: bool = False) -> BudgetRequest:
        """Write down what to ask of the coordinator; calls that it gives back are gone at once."""
        waiting = [one.count for one in self._waiting if not one.answer.done()]
        # Not all that wait: what is reserved here, no other worker of the run can use.
        ahead = AHEAD * max(1, self._slots()) * self._per_item
        wanted = max(0, min(sum(waiting), ahead) - self._pool)
        surplus = 0
        if is_leaving or not waiting:
            surplus, self._pool, wanted = self._pool, 0, 0
        self._since_asked = 0
        has_prices = not self._prices.is_free
        return BudgetRequest(self.run, has_prices, wanted, surplus, self._unstored)

    def allow(self, allowance: Allowance) -> None:
        """Take in the coordinator's answer, and let those begin who may now."""
        self.is_free = allowance.is_free
        if self.is_free:
            self._picos, self._no_money = None, ""
        self._pool += allowance.calls
        self._no_calls = allowance.no_calls
        if allowance.is_looked_at:
            self._no_money = allowance.no_money
            picos = allowance.remaining_picos
            # What ended meanwhile was not looked at.
            self._picos = None if picos is None else picos - self._since_asked
        self._admit()

    def dismiss(self) -> None:
        """Let the items go that have not begun."""
        for one in self._waiting:
            if one.is_item:
                one.answer.cancel()
