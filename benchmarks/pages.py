"""Pages: output items, polls and lists, beside a bare DRF page of the same bytes.

    .venv/bin/python benchmarks/pages.py [--rows 1000000] [--pages 20] [--turns 5]

A served instance is filled with a finished run of so many rows of recorded answers, and with one
that asked a model. Another server, started the same way on a database of the same kind, gives the
same objects by a ModelSerializer and DRF's cursor pagination (drf_reference.py). In turns, each is
asked for pages over a connection that is kept: ours at the start, the middle and the end, then
polled. DATABASE_URL and REDIS_URL are used where they are set.
"""

import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.figures import ROOT, Figure, database, options_of, report
from benchmarks.platform_up import EXACT, Platform, platform_up
from tests.patience import wait_until
from tests.served import Command, Served, execute, free_port

PAGE_ROWS = 100
PLACES = ("start", "middle", "end")
# At most so many have the bare project, whose pages would only be slower with a deeper table, and
# the run that asked a model.
OTHER_ROWS = 10_000
LISTED_RUNS = 20

FILL = """
from benchmarks.filling import fill
from evalplatform.dialects.openai.ids import EVAL_ID, ITEM_ID, RUN_ID
from apps.evaluations.models import Result, key_of
run = fill(EVAL_ID.to_internal_value({eval_id!r}), {rows}, is_asked={is_asked})
print(RUN_ID.of(run))
for row in {before!r}:
    print(ITEM_ID.of(Result(pk=key_of(run.number, row))))
"""


@dataclass
class Timing:
    """The time of requests of one kind. wall, processor: milliseconds a request, one a turn."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @property
    def milliseconds(self) -> float:
        return statistics.median(self.wall)

    @property
    def processor_milliseconds(self) -> float:
        return statistics.median(self.processor)


class Server:
    """A server that is asked over one kept connection, and its processor time."""

    def __init__(self, command: Command, port: int, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        self._processes = [
            process for process in command.processes() if "granian" in " ".join(process.cmdline())
        ]

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str) -> bytes:
        self._connection.request("GET", path, headers=self.headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise SystemExit(f"{path}: {response.status} {answer[:500]!r}")
        return answer

    def processor_seconds(self) -> float:
        return sum(processor_seconds_of(process) for process in self._processes)

    def time(self, timing: Timing, requests: int, ask: Callable[[], object]) -> None:
        """Ask so many times; add the median wall time, and the processor time of each."""
        walls, used = [], self.processor_seconds()
        for _ in range(requests):
            began = time.perf_counter()
            ask()
            walls.append(time.perf_counter() - began)
        timing.wall.append(statistics.median(walls) * 1000)
        timing.processor.append((self.processor_seconds() - used) / requests * 1000)


def processor_seconds_of(process: psutil.Process) -> float:
    """Return the processor time of a living process, as finely as the system tells it."""
    with suppress(AttributeError, OSError):
        # Linux: the number of the clock that runs while a process does, not in steps of 10 ms.
        return time.clock_gettime((~process.pid << 3) | 2)
    return sum(process.cpu_times()[:2])


class Reader:
    """Reads output items page by page from a place on, and begins there again at the end."""

    def __init__(self, server: Server, path: str, first: str) -> None:
        self.server, self.path, self.first, self.after = server, path, first, first

    def __call__(self) -> bytes:
        after = f"&after={self.after}" if self.after else ""
        page = self.server.get(f"{self.path}/output_items?limit={PAGE_ROWS}{after}")
        shown = orjson.loads(page)
        self.after = shown["last_id"] if shown["has_more"] else self.first
        return page


class ReferenceReader:
    """Reads the bare project's pages one after the other."""

    def __init__(self, server: Server, rows: int) -> None:
        self.server, self.rows, self.row = server, rows, 0

    def __call__(self) -> bytes:
        cursor = quote(b64encode(f"p={self.row}".encode()).decode())
        self.row = (self.row + PAGE_ROWS) % self.rows
        return self.server.get(f"/output_items?cursor={cursor}")


def filled(
    platform: Platform, eval_id: str, rows: int, *, is_asked: bool, pages: int
) -> tuple[str, dict[str, str]]:
    """Fill a run; its path, and the id before the first item of the pages at each place."""
    before = [max(0, row - 1) for row in (rows // 2, rows - pages * PAGE_ROWS)]
    code = FILL.format(eval_id=eval_id, rows=rows, is_asked=is_asked, before=before)
    run_id, *ids = platform.served.manage("shell", "-v", "0", "-c", code).split()
    firsts = dict(zip(PLACES, ["", *ids], strict=True))
    return f"/v1/evals/{eval_id}/runs/{run_id}", firsts


@contextmanager
def reference(served: Served, items: Sequence[Mapping[str, Any]], rows: int) -> Iterator[Command]:
    """Serve the bare project with these objects, over and over, as `manage.py up` serves ours."""
    near = served.env["DATABASE_URL"]
    name = f"{served.env['Q_CLUSTER_NAME']}_bare"
    url = urlsplit(near)._replace(path=f"/{name}").geturl() if near else ""
    with tempfile.TemporaryDirectory() as folder:
        if url:
            execute(near, f'CREATE DATABASE "{name}"')
        try:
            environment = {"DATA_DIR": folder, "DATABASE_URL": url}
            lines = Path(folder) / "items.jsonl"
            rounds = range(rows // len(items))
            lines.write_bytes(
                b"".join(
                    orjson.dumps({**item, "id": f"{item['id']}_{number}"}) + b"\n"
                    for number in rounds
                    for item in items
                )
            )
            script = str(ROOT / "benchmarks" / "drf_reference.py")
            filling = [sys.executable, script, "fill", str(lines)]
            subprocess.run(filling, env={**os.environ, **environment}, check=True)
            port = free_port()
            environment["PORT"] = str(port)
            granian = [
                *("granian", "benchmarks.drf_reference:application", "--interface", "wsgi"),
                *("--host", "127.0.0.1", "--port", str(port), "--log-level", "error"),
                *("--working-dir", str(ROOT), "--workers", "1"),
                *("--blocking-threads", "96", "--backlog", "1024"),
            ]
            with Command(granian, Path(folder) / "log", environment) as command:
                wait_until(lambda: _answers(port), 30, lambda: command.log)
                yield command
        finally:
            if url:
                execute(near, f'DROP DATABASE "{name}" WITH (FORCE)')


def _answers(port: int) -> bool:
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        asked.request("GET", "/output_items")
        return asked.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asked.close()


def measure(platform: Platform, rows: int, pages: int, turns: int) -> dict[str, Timing]:
    """Time each kind of request of ours, and the reference's page under "reference"."""
    others = min(rows, OTHER_ROWS)
    eval_id, listed_id = platform.create_eval([EXACT]), platform.create_eval([EXACT])
    path, firsts = filled(platform, eval_id, rows, is_asked=False, pages=pages)
    asked_path, asked = filled(platform, eval_id, others, is_asked=True, pages=pages)
    for _ in range(LISTED_RUNS):
        filled(platform, listed_id, 1, is_asked=False, pages=1)
    with closing(Server(platform.served, platform.served.port, platform.headers)) as ours:
        asks: dict[str, Callable[[], object]] = {
            place: Reader(ours, path, firsts[place]) for place in PLACES
        }
        asks["asked"] = Reader(ours, asked_path, asked["middle"])
        asks["poll"] = lambda: ours.get(path)
        asks["list"] = lambda: ours.get(f"/v1/evals/{listed_id}/runs")
        items = orjson.loads(Reader(ours, path, "")())["data"]
        with (
            reference(platform.served, items, others) as command,
            closing(Server(command, int(command.env["PORT"]), {})) as theirs,
        ):
            read = ReferenceReader(theirs, others)
            _check(orjson.loads(read())["results"], items)
            timings = {kind: Timing() for kind in (*asks, "reference")}
            for turn in range(turns + 1):
                if turn == 1:  # imports and caches are not what is measured
                    timings = {kind: Timing() for kind in timings}
                for kind, ask in asks.items():
                    ours.time(timings[kind], pages, ask)
                theirs.time(timings["reference"], pages * len(PLACES), read)
    return timings


def _check(theirs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]) -> None:
    """End the benchmark unless both give the same objects, but for their ids."""
    for one, other in zip(theirs, ours, strict=True):
        if {**one, "id": ""} != {**other, "id": ""}:
            raise SystemExit(f"the reference gives other objects: {one} instead of {other}")


def figures(timings: Mapping[str, Timing], rows: int) -> list[Figure]:
    bare = timings["reference"]
    names = {place: f"a page of {PAGE_ROWS} at the {place} of {rows:,} rows" for place in PLACES}
    names["asked"] = f"a page of {PAGE_ROWS}, answers of a model"
    names["poll"] = "a poll of a run"
    names["list"] = f"a list of {LISTED_RUNS} runs"
    wanted = dict.fromkeys(PLACES, 1 / 0.8) | {"poll": 1 / 0.35}
    found = []
    for kind, name in names.items():
        wall, processor = timings[kind].milliseconds, timings[kind].processor_milliseconds
        against, bound = "bare DRF page", wanted.get(kind)
        work = f"pages: {name}"
        found.append(Figure(work, wall, "ms", bare.milliseconds, against, ratio_at_least=bound))
        work = f"{work}, processor time"
        reference = bare.processor_milliseconds
        found.append(Figure(work, processor, "ms", reference, against, ratio_at_least=bound))
    start, *others = (timings[place].milliseconds for place in PLACES)
    slowest = max(others)
    work = f"pages: the slowest place of {rows:,} rows"
    flat = 1 / 1.15
    found.append(Figure(work, slowest, "ms", start, "start", ratio_at_least=flat))
    start, *others = (timings[place].processor_milliseconds for place in PLACES)
    slowest, work = max(others), f"{work}, processor time"
    found.append(Figure(work, slowest, "ms", start, "start", ratio_at_least=flat))
    return found


def main() -> None:
    options = options_of(__doc__, rows=1_000_000, pages=20, turns=5)
    with platform_up() as platform:
        timings = measure(platform, options.rows, options.pages, options.turns)
    print(f"reference: {timings['reference'].milliseconds:.2f} ms on {database()}")
    report(figures(timings, options.rows), options)


if __name__ == "__main__":
    main()
