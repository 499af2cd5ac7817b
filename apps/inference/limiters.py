"""How many calls this process may have in flight at an endpoint, and whose turn it is."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable

from apps.clients import Limiter


class Lane:
    """The places that this worker holds at one endpoint; those who wait take turns by run.

    Belongs to one event loop. A smaller grant takes effect as calls end.
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
        """How many call or wait to; those who were cancelled while waiting are gone."""
        waiting = (place for queue in self._waiting.values() for place in queue)
        return self.in_use + sum(not place.done() for place in waiting)

    @property
    def is_idle(self) -> bool:
        return self.demand == 0

    def resize(self, granted: int) -> None:
        self.granted = granted
        self._admit()

    async def acquire(self, turn: Hashable) -> None:
        if self.in_use < self.granted and not self._waiting:
            self.in_use += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(turn, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.release()
            raise

    def release(self) -> None:
        self.in_use -= 1
        self._admit()

    def dismiss(self) -> None:
        """Cancel all who wait."""
        for queue in self._waiting.values():
            for place in queue:
                place.cancel()
        self._waiting.clear()

    def _admit(self) -> None:
        while self.in_use < self.granted and self._waiting:
            turn, queue = self._waiting.popitem(last=False)
            while queue:
                place = queue.popleft()
                if not place.done():
                    place.set_result(None)
                    self.in_use += 1
                    break
            if queue:
                self._waiting[turn] = queue


class Turn(Limiter):
    """A lane as one run sees it."""

    def __init__(self, lane: Lane, turn: Hashable) -> None:
        self._lane = lane
        self._turn = turn

    async def acquire(self) -> None:
        await self._lane.acquire(self._turn)

    def release(self) -> None:
        self._lane.release()
