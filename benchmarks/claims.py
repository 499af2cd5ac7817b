"""Workers that race for a run's shards: claims a second, over all of them.

    .venv/bin/python benchmarks/claims.py [--workers 16] [--shards 16000] [--rounds 5]

Each worker is a process whose coordinator polls as in production: it asks which runs are going,
claims at most a statement's worth of shards, and reads their rows. In turn with it the same number
of processes take as many rows at once from the same table by a bare statement that skips locked
rows (on SQLite: by a conditional UPDATE), and read nothing.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.figures import ROOT, Figure, database, options_of, report
from tests.served import Managed

WORKERS_ON_SQLITE = 2  # which has one writer at a time

PREPARE = """
from apps.evaluations.engine import plan
from apps.evaluations.models import Run
from tests.factories import make_run
plan.GRADING_ROWS = 1
run = make_run(source={shards})
plan.plan_run(plan.claim_plan(run))
print(run.pk.hex)
"""

FREE = """
from apps.evaluations.models import Shard
Shard.objects.update(lease_token=None, lease_until=None, worker=None, attempts=0)
"""

OURS = """
import sys, time
from apps.evaluations.engine import claims
from apps.evaluations.engine.assignments import WorkerState
from apps.evaluations.engine.coordinator import Coordinator
from apps.evaluations.models import Run
from apps.ids import new_id
run = Run.objects.get(pk="{run}")
coordinator = Coordinator(new_id())
def poll(held):
    room = claims.AT_ONCE
    state = WorkerState({{run.pk: room}}, room, {{}}, held, {{}}, True, False, False)
    return [claim.shard.pk for claim in coordinator.poll(state).claims]
held = poll([])  # opens the connection, reads the run's criteria
print(len(held), flush=True)
sys.stdin.readline()
used, count = time.process_time(), 0
while held := poll(held):
    count += len(held)
print(count, time.process_time() - used, flush=True)
"""

BARE = """
import sys, time
from uuid import uuid4
from django.db import connection
from apps.evaluations.engine import claims
lock = "FOR UPDATE SKIP LOCKED" if connection.vendor == "postgresql" else ""
soon = "now() + interval '20 seconds'" if lock else "datetime('now', '+20 seconds')"
statement = (
    f"UPDATE evaluations_shard SET lease_until = {{soon}}, attempts = 1 WHERE id IN ("
    "SELECT id FROM evaluations_shard WHERE finished_at IS NULL AND lease_until IS NULL"
    f" ORDER BY run_id, number LIMIT {{claims.AT_ONCE}} {{lock}})"
)
def take():
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.rowcount
print(take(), flush=True)
sys.stdin.readline()
used, count = time.process_time(), 0
while taken := take():
    count += taken
print(count, time.process_time() - used, flush=True)
"""


def shell(managed: Managed, code: str) -> list[str]:
    return [sys.executable, str(ROOT / "manage.py"), "shell", "--no-imports", "-c", code]


def run_once(managed: Managed, code: str) -> str:
    done = subprocess.run(
        shell(managed, code), env=managed.env, check=True, text=True, stdout=subprocess.PIPE
    )
    return done.stdout.strip()


def race(managed: Managed, code: str, workers: int) -> tuple[float, float]:
    """Claims a second, and processor milliseconds a claim of the workers alone."""
    run_once(managed, FREE)
    racing = [
        subprocess.Popen(
            shell(managed, code),
            env={**managed.env, "EVALPLATFORM_ROLE": "cluster"},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(workers)
    ]
    for one in racing:
        assert one.stdout is not None
        one.stdout.readline()
    began = time.perf_counter()
    for one in racing:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    ended = [one.stdout.readline().split() for one in racing if one.stdout is not None]
    seconds = time.perf_counter() - began
    for one in racing:
        one.communicate()
    claimed = sum(int(count) for count, _ in ended)
    used = sum(float(used) for _, used in ended)
    return claimed / seconds, used / claimed * 1000


def figures(workers: int, shards: int, rounds: int) -> list[Figure]:
    bare, ours = [], []
    is_sqlite = database() == "SQLite"
    if is_sqlite:
        workers, shards = min(workers, WORKERS_ON_SQLITE), min(shards, 2_000)
    os.environ["EVALPLATFORM_ROLE"] = "cluster"
    with tempfile.TemporaryDirectory() as folder:
        managed = Managed(Path(folder) / "data", "migrate")
        managed.prepare()
        with managed:
            assert managed.process is not None
            managed.process.wait()
            run = run_once(managed, PREPARE.format(shards=shards))
            for number in range(1, rounds + 1):
                bare.append(race(managed, BARE.format(), workers))
                ours.append(race(managed, OURS.format(run=run), workers))
                print(
                    f"round {number}: bare {bare[-1][0]:,.0f}/s, ours {ours[-1][0]:,.0f}/s",
                    flush=True,
                )
    rate, used = (statistics.median(values) for values in zip(*ours, strict=True))
    bare_rate, bare_used = (statistics.median(values) for values in zip(*bare, strict=True))
    work = f"claims of {shards:,} shards by {workers} workers that race"
    return [
        Figure(
            work, rate, "claims/s", bare_rate, "bare loop", at_least=None if is_sqlite else 1_000
        ),
        Figure("processor time a claim, workers alone", used, "ms", bare_used, "bare loop"),
    ]


def main() -> None:
    options = options_of(__doc__, workers=16, shards=16_000, rounds=5)
    report(figures(options.workers, options.shards, options.rounds), options)


if __name__ == "__main__":
    main()
