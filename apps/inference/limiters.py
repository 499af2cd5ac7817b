"""Limit the calls that this process has in flight at an endpoint, and let runs take turns."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable

from apps.clients import Limiter


class EndpointLimiter:
    """Lets as many call at one endpoint as this worker holds slots; runs take turns.

    By turns, since a run with thousands of items would keep all others waiting. Belongs to one
    event loop. A smaller grant takes effect as calls end.
    """

    def __init__(self, granted: int) -> None:
        self.granted = granted
        self.in_use = 0
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def committed(self) -> int:
        """The most calls that may be in flight before the next `resize`."""
        return max(self.granted, self.in_use)

    @property
    def demand(self) -> int:
        """The number of calls in flight and of those that wait; cancelled ones are left out."""
        waiting = (waiter for queue in self._waiting.values() for waiter in queue)
        return self.in_use + sum(not waiter.done() for waiter in waiting)

    @property
    def is_idle(self) -> bool:
        return self.demand == 0

    def resize(self, granted: int) -> None:
        self.granted = granted
        self._admit()

    async def acquire(self, run: Hashable) -> None:
        # Not past those who wait, even where a slot is free: it is on its way to one of them.
        if self.in_use < self.granted and not self._waiting:
            self.in_use += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run, deque()).append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            # Cut in the moment between being let in and going on: the slot goes to the next.
            if waiter.done() and not waiter.cancelled():
                self.release()
            raise

    def release(self) -> None:
        self.in_use -= 1
        self._admit()

    def dismiss(self) -> None:
        """Cancel all who wait."""
        for queue in self._waiting.values():
            for waiter in queue:
                waiter.cancel()
        self._waiting.clear()

    def _admit(self) -> None:
        while self.in_use < self.granted and self._waiting:
            run, queue = self._waiting.popitem(last=False)
            # Those who were cancelled while they waited are passed over.
            while queue:
                waiter = queue.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    self.in_use += 1
                    break
            if queue:
                self._waiting[run] = queue  # behind the other runs


class RunLimiter(Limiter):
    """An endpoint's limiter as the clients of one run see it."""

    def __init__(self, limiter: EndpointLimiter, run: Hashable) -> None:
        self._limiter = limiter
        self._run = run

    async def acquire(self) -> None:
        await self._limiter.acquire(self._run)

    def release(self) -> None:
        self._limiter.release()
