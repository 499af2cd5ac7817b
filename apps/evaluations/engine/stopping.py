"""Tell whether this process is to stop, by the pipe that its supervisor holds open."""

import os
import select
import time

STOP_FD_VARIABLE = "EVALPLATFORM_LIFELINE"  # the pipe's file descriptor
LOOK_SECONDS = 0.1


class Lookout:
    """Answers as is_called_off does, but looks no more often than every LOOK_SECONDS.

    For those who ask at each call of a model; called off once is called off for good.
    """

    def __init__(self) -> None:
        self._was_called_off = False
        self._looks_again_at = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now >= self._looks_again_at and not self._was_called_off:
            self._was_called_off = is_called_off()
            self._looks_again_at = now + LOOK_SECONDS
        return self._was_called_off


def is_called_off() -> bool:
    """True once the pipe that the supervisor holds open is closed; false without a supervisor."""
    descriptor = os.environ.get(STOP_FD_VARIABLE)
    if not descriptor:
        return False
    try:
        poll = select.poll()
        poll.register(int(descriptor), select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True
