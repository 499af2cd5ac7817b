"""Run a module or script whose processes all end soon after their supervisor lets go of them.

    python -m evalplatform.lifeline granian --port 8000 …

The lifeline is one end of a socket pair. The supervisor holds the other. When it closes it or
dies, of whatever cause, the leader of the session sends itself SIGTERM; after the grace every
process that is left kills the whole group. Forked children watch too, so neither a killed parent
nor a hanging stop leaves an orphan behind. In the other direction, a process may ask for all of
them to be replaced.

There is no parent-death signal besides: a second SIGTERM can deadlock django-q2, whose handler
sets an event that is not re-entrant.
"""

import os
import runpy
import signal
import sys
import threading
import time
from contextlib import suppress

ENVIRONMENT = "EVALPLATFORM_LIFELINE"  # the file descriptor of the children's end
# From being told to stop to being killed; longer than workers drain (ENGINE_DRAIN_SECONDS).
GRACE_SECONDS = float(os.environ.get("EVALPLATFORM_GRACE_SECONDS", "12"))


def ask_for_replacement() -> None:
    """Ask the supervisor, where there is one, to start this session anew."""
    if own_end := os.environ.get(ENVIRONMENT):
        with suppress(OSError):
            os.write(int(own_end), b"!")


def watch(own_end: int) -> None:
    """Watch the lifeline from a thread, in this process and in all that are forked from it."""

    def wait() -> None:
        # Signals belong to the main thread, which they must be able to interrupt.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        with suppress(ConnectionResetError):
            os.read(own_end, 1)
        if os.getpid() == os.getsid(0):
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        # Our group is the session's, so this takes with us what cannot watch: other programs.
        os.killpg(0, signal.SIGKILL)

    def start() -> None:
        threading.Thread(target=wait, name="lifeline", daemon=True).start()

    def start_in_child() -> None:
        # With its parent's handler a child would miss a SIGTERM that comes before it has its own.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        start()

    start()
    os.register_at_fork(after_in_child=start_in_child)


def main() -> None:
    sys.argv = sys.argv[1:]
    target = sys.argv[0]
    watch(int(os.environ[ENVIRONMENT]))
    if target.endswith(".py"):
        runpy.run_path(target, run_name="__main__")
    else:
        runpy.run_module(target, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
