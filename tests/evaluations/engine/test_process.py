"""A process that works has the quickest loop and looks for little garbage."""

import subprocess
import sys
from importlib.util import find_spec

from apps.evaluations.engine.process import new_event_loop

SETTLES = """
import gc
from apps.evaluations.engine.process import GARBAGE_THRESHOLDS, settle_garbage_collector
settle_garbage_collector()
frozen = gc.get_freeze_count()
assert frozen > 1_000, frozen
assert gc.get_threshold() == GARBAGE_THRESHOLDS
kept = [[] for _ in range(100)]
settle_garbage_collector()
assert gc.get_freeze_count() <= frozen
"""


def test_what_is_loaded_is_no_garbage_and_is_settled_once():
    subprocess.run([sys.executable, "-c", SETTLES], check=True)


def test_the_quickest_loop_that_is_installed_is_taken():
    loop = new_event_loop()
    try:
        assert type(loop).__module__.startswith("uvloop") == (find_spec("uvloop") is not None)
    finally:
        loop.close()
