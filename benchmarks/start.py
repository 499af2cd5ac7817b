"""Time a clean clone until the demo's table, and our processes until they answer and work.

    .venv/bin/python benchmarks/start.py [--rounds 3] [--clone 0]

The clone is made with pip's cache warm; its reference is the share in which pip installs what the
demo needs. Needs git and make. `up` and `worker` are started on data that are migrated: the web
until /readyz answers 200, the worker until its first heartbeat, with a run waiting for it. Their
reference is a Python that imports Django's command line and ends.
"""

import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.figures import ROOT, Figure, options_of, report
from tests.served import Managed, Served, free_port

LAST_WORDS = "Ctrl-C stops it."
MOST_SECONDS = 60
POLL_SECONDS = 0.01
# Long enough to be met at work.
WAITING_RUN = "from tests.factories import make_run; make_run(source=5_000)"
SEEN = (
    "from apps.evaluations.models import WorkerHeartbeat; print(WorkerHeartbeat.objects.exists())"
)
# The demo would compare a model of the caller's, or use the data of who runs this.
NOT_INHERITED = ("DATABASE_URL", "REDIS_URL", "DATA_DIR", "OPENAI_API_KEY", "OPENAI_BASE_URL")


def seconds_to_start(folder: Path) -> tuple[float, float]:
    """Of installing alone, and of everything. Raises SystemExit with the demo's output."""
    environment = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    began = time.perf_counter()
    make = ["make", "--directory", str(folder)]
    subprocess.run([*make, ".venv/base.stamp"], env=environment, stdout=sys.stderr, check=True)
    installed = time.perf_counter() - began
    demo = subprocess.Popen(
        [*make, "demo", f"PORT={free_port()}"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    said = []
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            said.append(line)
            if LAST_WORDS in line:
                return installed, time.perf_counter() - began
    finally:
        os.killpg(demo.pid, signal.SIGINT)
        demo.communicate(timeout=30)
    raise SystemExit(f"the demo ended by itself:\n{''.join(said)}")


def used(managed: Managed) -> float:
    """The processor seconds of the whole process tree so far."""
    total = 0.0
    for process in managed.processes():
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def wait(true: Callable[[], object]) -> None:
    while not true():
        time.sleep(POLL_SECONDS)


def web_start(folder: Path) -> tuple[float, float]:
    """Seconds until /readyz answers 200, and of the processor until then."""
    with Served(folder) as served:  # migrates
        served.stop()
        began = time.perf_counter()
        Managed.start(served)
        wait(served.ready)
        return time.perf_counter() - began, used(served)


def worker_start(folder: Path) -> tuple[float, float]:
    """Seconds until a worker says that it is at work, and of the processor until then."""
    managed = Managed(folder, "worker")
    with ExitStack() as stack:
        stack.push(managed)
        managed.prepare()
        managed.manage("migrate", "--verbosity", "0")
        managed.manage("shell", "--no-imports", "-c", WAITING_RUN)
        began = time.perf_counter()
        managed.start()
        wait(lambda: managed.manage("shell", "--no-imports", "-c", SEEN).strip() == "True")
        return time.perf_counter() - began, used(managed)


def python_start() -> tuple[float, float]:
    """Seconds until a bare Python has imported Django's commands, and of the processor."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import django.core.management"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, processor


def figures_of_processes(rounds: int) -> list[Figure]:
    taken: dict[str, list[tuple[float, float]]] = {"bare": [], "web": [], "worker": []}
    for _ in range(rounds):
        taken["bare"].append(python_start())
        for name, start in (("web", web_start), ("worker", worker_start)):
            with tempfile.TemporaryDirectory() as folder:
                taken[name].append(start(Path(folder, "data")))
    wall, processor = (
        {name: statistics.median(one[index] for one in took) for name, took in taken.items()}
        for index in (0, 1)
    )
    against = "Python with Django"
    found = []
    for name in ("web", "worker"):
        work = f"start: {name}"
        found += [
            Figure(work, wall[name], "s", wall["bare"], against),
            Figure(
                f"{work}, processor time of all processes",
                processor[name],
                "s",
                processor["bare"],
                against,
            ),
        ]
    return found


def figure_of_a_clone() -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        installed, everything = seconds_to_start(Path(folder, "clone"))
    return Figure(
        "start: from a clean clone to the demo's table",
        everything,
        "s",
        installed,
        "installing its packages",
        at_most=MOST_SECONDS,
    )


def main() -> int:
    options = options_of(__doc__, rounds=3, clone=1)
    clone = [figure_of_a_clone()] if options.clone else []
    report([*clone, *figures_of_processes(options.rounds)], options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
