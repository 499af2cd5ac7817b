"""Statements a second and connections of 1, 10, 16 and 50 workers on one PostgreSQL.

    DATABASE_URL=postgres://… REDIS_URL=redis://… .venv/bin/python benchmarks/scale_out.py
        [--workers 1,10,16,50] [--seconds 60] [--idle-seconds 30] [--in-flight 256]

Each number of worker processes stands under one `manage.py up` on a fresh database, which it
reaches through a proxy that counts. They idle, and then work on one run whose model server answers
at once, for so many seconds; then the run is canceled. More workers than cores show what each adds
to the database, not how fast they are. On SQLite there is nothing to count.
"""

import json
import os
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.figures import Figure, database, options_of, report
from benchmarks.platform_up import ACCOUNT, Platform
from benchmarks.wire_count import WireCount, counted
from tests.model_server import running
from tests.served import Served, execute
from tests.services import main as make_database

MODEL = "m"
ROWS = 400_000  # more than are asked in the time
SETTLE_SECONDS = 8  # after the start, before idling is counted
MOST_CONNECTIONS = 100  # PostgreSQL's own bound, where nobody changed it
IDLE_STATEMENTS = 3  # a second


@dataclass(frozen=True)
class Load:
    """The statements a second of so many workers, and their connections at most."""

    workers: int
    idle: float
    busy: float
    results: float
    connections: int


def rows_file(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    with path.open("w") as file:
        for number in range(ROWS):
            row = {"item": {"question": f"Question {number}", "answer": f"Question {number}"}}
            file.write(json.dumps(row) + "\n")
    return path


def per_second(count: WireCount, seconds: float) -> float:
    before = count.statements
    time.sleep(seconds)
    return (count.statements - before) / seconds


def counts_of(platform: Platform, run: dict) -> int:
    told = platform.call("GET", f"/evals/{run['eval_id']}/runs/{run['id']}")
    return int(told["result_counts"]["passed"] + told["result_counts"]["failed"])


def measure(
    workers: int, seconds: float, idle_seconds: float, in_flight: int, rows: Path, folder: Path
) -> Load:
    near = os.environ["DATABASE_URL"]
    name = f"scale_out_{os.getpid()}_{workers}"
    url = urlsplit(near)._replace(path=f"/{name}").geturl()
    make_database(url)
    try:
        with counted(url) as count, running(delay=0) as server:
            environment = {
                "DATABASE_URL": count.url,
                "WORKERS": str(workers),
                # Twice as many would not fit with fifty.
                "WORKER_CONNECTIONS": "1" if workers > 16 else "2",
            }
            with Served(folder / f"data{workers}", environment) as served:
                key = served.manage("create_api_key", "--account", ACCOUNT).strip()
                with closing(Platform(served, key)) as platform:
                    platform.add_model_server(server, in_flight, MODEL)
                    eval_id = platform.create_eval()
                    file_id = platform.upload(rows)
                    time.sleep(SETTLE_SECONDS)
                    idle = per_second(count, idle_seconds)
                    run = platform.start_run(eval_id, asking(file_id))
                    while counts_of(platform, run) == 0:
                        time.sleep(1)
                    done = counts_of(platform, run)
                    busy = per_second(count, seconds)
                    results = (counts_of(platform, run) - done) / seconds
                    platform.call("POST", f"/evals/{eval_id}/runs/{run['id']}")
            return Load(workers, idle, busy, results, count.most_open)
    finally:
        execute(near, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def asking(file_id: str) -> dict[str, object]:
    return {
        "type": "completions",
        "model": MODEL,
        "source": {"type": "file_id", "id": file_id},
        "input_messages": {
            "type": "template",
            "template": [{"role": "user", "content": "{{ item.question }}"}],
        },
    }


def figures(
    workers: tuple[int, ...], seconds: float, idle_seconds: float, in_flight: int
) -> list[Figure]:
    found: list[Figure] = []
    if database() == "SQLite":
        return found
    with tempfile.TemporaryDirectory() as folder:
        rows = rows_file(Path(folder))
        for count in workers:
            load = measure(count, seconds, idle_seconds, in_flight, rows, Path(folder))
            print(load, flush=True)
            name = f"{count} workers" if count > 1 else "1 worker"
            found += [
                Figure(f"{name}, idle", load.idle, "statements", at_most=IDLE_STATEMENTS),
                Figure(f"{name}, at work", load.busy, "statements"),
                Figure(f"{name}, results", load.results, "results/s"),
                Figure(f"{name}, connections", load.connections, "", at_most=MOST_CONNECTIONS - 3),
            ]
    return found


def main() -> None:
    options = options_of(
        __doc__, workers=(1, 10, 16, 50), seconds=60.0, idle_seconds=30.0, in_flight=256
    )
    report(
        figures(options.workers, options.seconds, options.idle_seconds, options.in_flight), options
    )


if __name__ == "__main__":
    main()
