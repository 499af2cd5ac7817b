"""A command line for test_supervisor: supervises one service and reports on standard output.

python supervised.py SERVICE [sweep-fails] [stuck]
"""

import sys

from evalplatform.supervisor import Service, Supervisor


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def sweep() -> None:
    say("swept")
    if "sweep-fails" in sys.argv:
        raise OSError("the database is away")


Supervisor(
    [Service("service", [sys.argv[1]], {})],
    ready=lambda: True,
    announce=lambda: say("ready"),
    sweep=sweep,
    is_stuck=lambda: "stuck" in sys.argv,
    sweep_seconds=0.2,
    stuck_seconds=0.5,
).run()
