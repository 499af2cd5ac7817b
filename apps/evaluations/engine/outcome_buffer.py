"""The outcomes on their way from a worker's loop to its writer."""

import asyncio
from contextlib import suppress

from django.conf import settings

from apps.evaluations.engine.store import HeldShard, Outcome

BUFFER_CAPACITY = 4_000  # outcomes that may wait for the writer before grading waits for it


class OutcomeBuffer:
    """Collects outcomes until they are worth a transaction; belongs to one event loop."""

    def __init__(self) -> None:
        self._pairs: list[tuple[HeldShard, Outcome]] = []
        self._is_due = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    def __bool__(self) -> bool:
        return bool(self._pairs)

    def add(self, held: HeldShard, outcome: Outcome) -> None:
        self._pairs.append((held, outcome))
        if len(self._pairs) >= BUFFER_CAPACITY:
            self._has_room.clear()
            self.hasten()

    def take(self) -> list[tuple[HeldShard, Outcome]]:
        taken, self._pairs = self._pairs, []
        return taken

    def hasten(self) -> None:
        """Ask for what is there to be stored at once."""
        self._is_due.set()

    def reopen(self) -> None:
        """Let those go on who wait for room: what was taken is stored."""
        self._has_room.set()

    async def wait_for_room(self) -> None:
        """Return at once while there is room, without giving up the loop."""
        if not self._has_room.is_set():
            await self._has_room.wait()

    async def wait_until_due(self) -> None:
        """Wait until somebody is in haste, ENGINE_FLUSH_SECONDS at most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_due.wait(), settings.ENGINE_FLUSH_SECONDS)
        self._is_due.clear()
