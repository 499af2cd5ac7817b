"""Figure C: rows of recorded answers come in by HTTP, are graded, and are read in pages of 100.

    .venv/bin/python benchmarks/ingest.py [--rows 100000] [--pages 100]

A file is uploaded, a run over it is created and waited for, and pages of its output items are read
from the start, the middle and the end, in turns. Beside it, in the same minutes: the same rows put
into a plain table, compared and stored by a bare loop, and read by keyset without any server.
DATABASE_URL and REDIS_URL are used where they are set.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import uuid_utils

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bare import Store, store
from benchmarks.figures import Figure, options_of, report
from benchmarks.platform_up import MemoryWatch, Platform, platform_up

PAGE_ROWS = 100
PIECE_ROWS = 5_000
POLL_SECONDS = 0.25  # often enough for seconds, seldom enough to leave the workers alone
PLACES = ("start", "middle", "end")

# The id of a row's result, which a client would have from the page before.
FIND = """
from apps.evaluations.models import Result, Run
from evalplatform.dialects.openai.ids import ITEM_ID, RUN_ID
results = Result.objects.of_run(Run.objects.get(pk=RUN_ID.to_internal_value({run!r})))
for index in {indexes!r}:
    print(ITEM_ID.of(results.get(row_index=index)))
"""


@dataclass(frozen=True)
class Passage:
    """The time it took to bring rows in, grade and read them.

    page_seconds: by place, one a page. The processor's are those of the whole process tree.
    """

    rows: int
    upload_seconds: float
    create_seconds: float
    graded_seconds: float
    graded_processor_seconds: float
    page_processor_seconds: float
    page_seconds: Mapping[str, Sequence[float]]
    memory: Mapping[str, float]

    @property
    def ingested_a_second(self) -> float:
        return self.rows / (self.upload_seconds + self.create_seconds)

    @property
    def graded_a_second(self) -> float:
        return self.rows / self.graded_seconds

    def page_milliseconds(self, place: str) -> float:
        """Of the page in the middle when they are ordered by time."""
        return statistics.median(self.page_seconds[place]) * 1000


def write_rows(path: Path, count: int) -> None:
    """Lines of about 200 bytes, whose recorded answers all pass."""
    with path.open("wb") as file:
        for number in range(count):
            answer = f"The answer to question {number} is {number * 7919 % 1_000_003}."
            question = f"What does the register of cases say about entry {number}, and why?"
            row = {
                "item": {"question": question, "answer": answer},
                "sample": {"output_text": answer},
            }
            file.write(orjson.dumps(row) + b"\n")


def pass_through(platform: Platform, path: Path, count: int, pages: int) -> Passage:
    """Upload, run, wait, read; the most memory of each kind of process on the way."""
    eval_id = platform.create_eval()
    with MemoryWatch(platform) as watch:
        began = time.perf_counter()
        file_id = platform.upload(path)
        uploaded = time.perf_counter()
        source = {"type": "file_id", "id": file_id}
        run = platform.start_run(eval_id, {"type": "jsonl", "source": source})
        created, used = time.perf_counter(), platform.processor_seconds()
        run = platform.wait_for(run, count, POLL_SECONDS)
        graded = time.perf_counter()
        graded_processor_seconds = platform.processor_seconds() - used
        page_seconds, page_processor_seconds = read_pages(platform, run, count, pages)
    return Passage(
        rows=count,
        upload_seconds=uploaded - began,
        create_seconds=created - uploaded,
        graded_seconds=graded - uploaded,
        graded_processor_seconds=graded_processor_seconds,
        page_processor_seconds=page_processor_seconds,
        page_seconds=page_seconds,
        memory=watch.peaks,
    )


def read_pages(
    platform: Platform, run: Mapping[str, Any], count: int, pages: int
) -> tuple[dict[str, list[float]], float]:
    """Seconds a page at the three places, onwards from each in turn, and the processor's a page."""
    path = f"/evals/{run['eval_id']}/runs/{run['id']}/output_items?limit={PAGE_ROWS}"
    pages = max(1, min(pages, count // PAGE_ROWS // 3))
    # The page at each place begins behind this row.
    before = [count // 2 - 1, max(0, count - pages * PAGE_ROWS - 1)]
    code = FIND.format(run=run["id"], indexes=before)
    afters = ["", *platform.served.manage("shell", "-v", "0", "-c", code).split()]
    platform.reconnect()
    used = platform.processor_seconds()
    seconds: dict[str, list[float]] = {place: [] for place in PLACES}
    for _ in range(pages):
        for number, place in enumerate(PLACES):
            after = f"&after={afters[number]}" if afters[number] else ""
            began = time.perf_counter()
            page = platform.get_raw(path + after)
            seconds[place].append(time.perf_counter() - began)
            afters[number] = orjson.loads(page)["last_id"]
    return seconds, (platform.processor_seconds() - used) / (pages * len(PLACES))


@dataclass(frozen=True)
class Bare:
    """The same by nobody's server: rows a second put in and graded, milliseconds a page."""

    ingested_a_second: float
    graded_a_second: float
    page_milliseconds: float


def without_a_server(path: Path, count: int, pages: int) -> Bare:
    with store() as tables:
        tables.create("bare_row", "number BIGINT PRIMARY KEY", "line TEXT")
        began = time.perf_counter()
        with path.open(encoding="utf-8") as lines:
            insert(tables, "bare_row", enumerate(lines))
        ingested = time.perf_counter()
        grade(tables, path)
        graded = time.perf_counter()
        milliseconds = []
        for number in range(pages):
            before = number * count // pages
            start = time.perf_counter()
            orjson.dumps(tables.page("bare_row", before, PAGE_ROWS))
            milliseconds.append((time.perf_counter() - start) * 1000)
    return Bare(
        ingested_a_second=count / (ingested - began),
        graded_a_second=count / (graded - ingested),
        page_milliseconds=statistics.median(milliseconds),
    )


def insert(tables: Store, table: str, rows: Iterable[Sequence[Any]]) -> None:
    for piece in pieces(rows):
        tables.insert(table, piece)


def grade(tables: Store, path: Path) -> None:
    """Read, compare, store a result and a score a row, with the keys that a server would need."""
    key = "id TEXT PRIMARY KEY"
    tables.create("bare_result", key, "number BIGINT UNIQUE", "sample TEXT", "passed INTEGER")
    tables.create("bare_score", key, "result TEXT UNIQUE", "value REAL")
    with path.open("rb") as lines:
        for piece in pieces(enumerate(lines)):
            results, scores = [], []
            for number, line in piece:
                row = orjson.loads(line)
                passed = int(row["sample"]["output_text"] == row["item"]["answer"])
                result = str(uuid_utils.uuid7())
                results.append((result, number, orjson.dumps(row["sample"]).decode(), passed))
                scores.append((str(uuid_utils.uuid7()), result, float(passed)))
            tables.insert("bare_result", results)
            tables.insert("bare_score", scores)


def pieces(rows: Iterable[Any]) -> Iterator[list[Any]]:
    held = []
    for row in rows:
        held.append(row)
        if len(held) == PIECE_ROWS:
            yield held
            held = []
    yield held


def figures(passage: Passage, bare: Bare) -> list[Figure]:
    of = f"{passage.rows:,} rows"
    found = [
        Figure(
            f"C: upload and run creation, {of}",
            passage.ingested_a_second,
            "rows/s",
            bare.ingested_a_second,
            "bare inserts",
            at_least=25_000,
        ),
        Figure(
            f"C: graded and stored, {of}",
            passage.graded_a_second,
            "rows/s",
            bare.graded_a_second,
            "bare loop",
            at_least=2_500,
        ),
        Figure(
            f"C: processor time a row graded, {of}, whole process tree",
            passage.graded_processor_seconds / passage.rows * 1000,
            "ms",
        ),
    ]
    found += [
        Figure(
            f"C: a page of {PAGE_ROWS} at the {place} of {of}",
            passage.page_milliseconds(place),
            "ms",
            bare.page_milliseconds,
            "bare select",
            at_most=12,
        )
        for place in PLACES
    ]
    found.append(
        Figure(
            f"C: processor time of a page of {of}, whole process tree",
            passage.page_processor_seconds * 1000,
            "ms",
        )
    )
    start, *others = (passage.page_milliseconds(place) for place in PLACES)
    found.append(
        Figure(
            f"C: the slowest place of {of}", max(others), "ms", start, "start", ratio_at_least=0.8
        )
    )
    found += memory_figures(passage.memory, of)
    return found


def memory_figures(memory: Mapping[str, float], of: str) -> list[Figure]:
    return [
        Figure(f"C: most memory of one process, {kind}, {of}", peak, "MB", at_most=400)
        for kind, peak in sorted(memory.items())
    ]


def main() -> None:
    options = options_of(__doc__, rows=100_000, pages=100)
    with tempfile.TemporaryDirectory() as folder:
        path, warm = Path(folder) / "rows.jsonl", Path(folder) / "warm.jsonl"
        write_rows(path, options.rows)
        write_rows(warm, PAGE_ROWS)
        bare = without_a_server(path, options.rows, options.pages)
        with platform_up() as platform:
            pass_through(platform, warm, PAGE_ROWS, 1)  # imports are not what is measured
            passage = pass_through(platform, path, options.rows, options.pages)
    report(figures(passage, bare), options)


if __name__ == "__main__":
    main()
