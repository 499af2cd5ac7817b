"""Fit a process out for work: its event loop, and how often it looks for garbage."""

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from functools import cache

# The quickest that is installed; nothing in the engine depends on which it is.
new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
with suppress(ImportError):  # on Windows, and for interpreters other than CPython
    import uvloop

    new_event_loop = uvloop.new_event_loop

# Thousands of items in flight are no garbage, and to look through them takes a tenth of the time.
# Memory stays within bounds: a slice of work makes few circles, and the process is replaced when
# it has grown (Q_CLUSTER).
GARBAGE_THRESHOLDS = (10_000, 20, 50)


@cache
def settle_garbage_collector() -> None:
    """Leave out of all later collections what is loaded by now, and collect less often.

    For processes that only work; the first call does it, later ones nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
