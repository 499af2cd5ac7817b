"""Figure C: rows of recorded answers come in by HTTP and are graded.

    .venv/bin/python benchmarks/ingest.py [--rows 100000] [--turns 5]

A file is uploaded, a run over it is created and waited for. In turn with it the same rows are put
into a plain table, compared and stored by a bare loop without any server. How they are read is
measured in pages.py. DATABASE_URL and REDIS_URL are used where they are set.
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
from benchmarks.figures import Figure, database, options_of, report
from benchmarks.platform_up import MemoryWatch, Platform, platform_up

WARM_ROWS = 100
PIECE_ROWS = 5_000
POLL_SECONDS = 0.25  # often enough for seconds, seldom enough to leave the workers alone


@dataclass(frozen=True)
class Passage:
    """The seconds that it took to bring rows in and to grade them.

    Those of the processor are of the whole process tree, without a database server's. memory: the
    most of each kind of process, in MB.
    """

    rows: int
    ingested: float
    ingested_processor: float
    graded: float
    graded_processor: float
    memory: Mapping[str, float]


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


def pass_through(platform: Platform, path: Path, count: int) -> Passage:
    """Upload, run, wait; the most memory of each kind of process on the way."""
    eval_id = platform.create_eval()
    with MemoryWatch(platform) as watch:
        began, used = time.perf_counter(), platform.processor_seconds()
        file_id = platform.upload(path)
        uploaded = time.perf_counter()
        source = {"type": "file_id", "id": file_id}
        run = platform.start_run(eval_id, {"type": "jsonl", "source": source})
        created, used_until = time.perf_counter(), platform.processor_seconds()
        platform.wait_for(run, count, POLL_SECONDS)
        graded = time.perf_counter()
    return Passage(
        rows=count,
        ingested=created - began,
        ingested_processor=used_until - used,
        graded=graded - uploaded,
        graded_processor=platform.processor_seconds() - used_until,
        memory=watch.peaks,
    )


def without_a_server(path: Path, count: int) -> Passage:
    """The same by nobody's server."""
    with store() as tables:
        tables.create("bare_row", "number BIGINT PRIMARY KEY", "line TEXT")
        began, used = time.perf_counter(), time.process_time()
        with path.open(encoding="utf-8") as lines:
            insert(tables, "bare_row", enumerate(lines))
        ingested, used_until = time.perf_counter(), time.process_time()
        grade(tables, path)
        return Passage(
            rows=count,
            ingested=ingested - began,
            ingested_processor=used_until - used,
            graded=time.perf_counter() - ingested,
            graded_processor=time.process_time() - used_until,
            memory={},
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


def figures(passages: Sequence[Passage], bare: Sequence[Passage]) -> list[Figure]:
    rows = passages[0].rows
    of = f"{rows:,} rows"
    ingested, ingested_processor = ratio_of("ingested", passages, bare)
    graded, graded_processor = ratio_of("graded", passages, bare)
    wanted = 0.6 if database() == "PostgreSQL" else 0.25
    found = [
        Figure(
            f"C: upload and run creation, {of}",
            rows / ingested[0],
            "rows/s",
            rows / ingested[1],
            "bare inserts",
            at_least=25_000,
        ),
        Figure(
            f"C: upload and run creation, {of}, processor time a row, whole process tree",
            ingested_processor[0] / rows * 1000,
            "ms",
            ingested_processor[1] / rows * 1000,
            "bare inserts",
        ),
        Figure(
            f"C: graded and stored, {of}",
            rows / graded[0],
            "rows/s",
            rows / graded[1],
            "bare loop",
            ratio_at_least=wanted,
        ),
        Figure(
            f"C: graded and stored, {of}, processor time a row, whole process tree",
            graded_processor[0] / rows * 1000,
            "ms",
            graded_processor[1] / rows * 1000,
            "bare loop",
        ),
    ]
    kinds = {kind for passage in passages for kind in passage.memory}
    memory = {kind: max(passage.memory.get(kind, 0) for passage in passages) for kind in kinds}
    return found + memory_figures(memory, of)


def ratio_of(
    name: str, passages: Sequence[Passage], bare: Sequence[Passage]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The medians of ours and of the bare ones: of seconds, and of the processor's."""

    def median(those: Sequence[Passage], field: str) -> float:
        return statistics.median(getattr(one, field) for one in those)

    wall, processor = name, f"{name}_processor"
    return (
        (median(passages, wall), median(bare, wall)),
        (median(passages, processor), median(bare, processor)),
    )


def memory_figures(memory: Mapping[str, float], of: str) -> list[Figure]:
    return [
        Figure(f"C: most memory of one process, {kind}, {of}", peak, "MB", at_most=200)
        for kind, peak in sorted(memory.items())
    ]


def main() -> None:
    options = options_of(__doc__, rows=100_000, turns=5)
    with tempfile.TemporaryDirectory() as folder:
        path, warm = Path(folder) / "rows.jsonl", Path(folder) / "warm.jsonl"
        write_rows(path, options.rows)
        write_rows(warm, WARM_ROWS)
        passages, bare = [], []
        with platform_up() as platform:
            pass_through(platform, warm, WARM_ROWS)  # imports are not what is measured
            for turn in range(1, options.turns + 1):
                bare.append(without_a_server(path, options.rows))
                passages.append(pass_through(platform, path, options.rows))
                print(
                    f"turn {turn}: bare {bare[-1].graded:.2f} s, ours {passages[-1].graded:.2f} s",
                    flush=True,
                )
    report(figures(passages, bare), options)


if __name__ == "__main__":
    main()
