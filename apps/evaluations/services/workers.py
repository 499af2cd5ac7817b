"""Tell how many workers there are, for those who watch over the installation."""

from dataclasses import dataclass

from apps.evaluations.engine.heartbeats import busy_workers, ready_workers


@dataclass(frozen=True)
class Workers:
    """Workers of all machines that gave a sign of life lately: kept ready, and at work."""

    ready: int
    busy: int


def count_workers() -> Workers:
    return Workers(ready_workers(), busy_workers())
