"""Works in a process of its own, until nothing was left for so many seconds of a quick machine.

python worker_process.py [SECONDS]
"""

import sys
import time

import django

django.setup()

from apps.evaluations.engine.worker import Worker  # noqa: E402  Django first
from apps.grading.graders import GRADERS  # noqa: E402  Django first
from tests.evaluations.engine.deadly import Deadly  # noqa: E402  Django first
from tests.patience import slowness  # noqa: E402  Django first

GRADERS[Deadly.kind] = Deadly

idle_seconds = float(sys.argv[1]) * slowness() if len(sys.argv) > 1 else 0.0
ends_at = time.monotonic() + idle_seconds
while Worker().run() or time.monotonic() < ends_at:
    pass
