"""Wait for the end of a run while a caller waits for the answer."""

import time
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection

from apps.evaluations.models import Run

# A short run is told of at once, a long one costs four queries a second.
FIRST_LOOK_SECONDS = 0.02
LAST_LOOK_SECONDS = 0.25


def await_end(run_id: UUID, seconds: float) -> bool:
    """Wait at most so long, and return whether the run has ended; a run that is gone has.

    Between two looks no connection to the database is held, and a database that is away is
    waited for as well.
    """
    until = time.monotonic() + seconds
    pause = FIRST_LOOK_SECONDS
    while True:
        try:
            if not Run.objects.unfinished().filter(pk=run_id).exists():
                return True
        except (OperationalError, InterfaceError):
            connection.close()
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
        left = until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(1.5 * pause, LAST_LOOK_SECONDS)
