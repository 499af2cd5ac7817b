"""Tell whether this process is to stop, by the pipe that its supervisor holds open."""

import os
import select

STOP_FD_VARIABLE = "EVALPLATFORM_LIFELINE"  # the pipe's file descriptor


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
