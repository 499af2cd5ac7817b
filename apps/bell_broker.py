"""django-q2's queue in our own tables, whose readers wait for a bell instead of asking often."""

from typing import Any

from django_q.brokers.orm import ORM

from apps import bells

LOOK_SECONDS = 1.0  # without a bell, which may be lost


class BellBroker(ORM):  # type: ignore[misc]  # django-q2 has no types
    """A message rings; a reader that finds none waits. The settings' `poll` must be 0."""

    _listener: bells.Listener | None = None

    def enqueue(self, task: Any) -> Any:
        key = super().enqueue(task)
        bells.ring()
        return key

    def dequeue(self) -> Any:
        # Made here, in the one process that reads: the broker is inherited by all of a cluster's.
        if self._listener is None:
            self._listener = bells.Listener()
        # It listens before it looks, so a message that comes in between rings.
        messages = super().dequeue()
        if not messages:
            self._listener.wait(LOOK_SECONDS)
        return messages

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
