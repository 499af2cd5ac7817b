"""Fork worker processes, as a cluster does, until standard input ends.

Loading all modules takes longer than most of what such a worker does. Each line of standard input
is a JSON object that asks for one: `seconds` (of a quick machine) for which it goes on without
work, `settings` that it has, and `folder`. The answer is a line with its number. What it prints
goes to the file NUMBER.log in the folder, and its exit code to NUMBER.code when it has ended.
"""

import json
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402  Django first

from apps.evaluations.engine.worker import Worker  # noqa: E402  Django first
from apps.grading.graders import GRADERS  # noqa: E402  Django first
from tests.evaluations.engine.deadly import Deadly  # noqa: E402  Django first
from tests.patience import slowness  # noqa: E402  Django first

GRADERS[Deadly.kind] = Deadly
folders: dict[int, Path] = {}


def work(asked: dict[str, Any]) -> None:
    for name, value in asked["settings"].items():
        setattr(settings, name, value)
    ends_at = time.monotonic() + asked["seconds"] * slowness()
    while Worker().run() or time.monotonic() < ends_at:
        pass


def fork(asked: dict[str, Any]) -> int:
    # It may end before it is noted here.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    folder = Path(asked["folder"])
    number = os.fork()
    if number:
        folders[number] = folder
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        return number
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    log = os.open(folder / f"{os.getpid()}.log", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 1
    try:
        work(asked)
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def note_ends(*_signal: object) -> None:
    with suppress(ChildProcessError):
        while ended := os.waitpid(-1, os.WNOHANG):
            number, status = ended
            if not number:
                return
            place = folders[number] / f"{number}.code"
            place.with_suffix(".new").write_text(str(os.waitstatus_to_exitcode(status)))
            place.with_suffix(".new").rename(place)


signal.signal(signal.SIGCHLD, note_ends)
for line in sys.stdin:
    sys.stdout.write(f"{fork(json.loads(line))}\n")
    sys.stdout.flush()
