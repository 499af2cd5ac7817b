"""Growth: what a row costs, in time and memory, as runs grow from a thousand rows to a million.

    .venv/bin/python benchmarks/growth.py [--sizes 10000,100000,1000000]

One served instance takes the runs one after the other, so that its tables grow as well. Each is
uploaded and graded as in ingest.py; the second smallest is what the largest is measured by, since
the smallest is mostly the wait for its start. How they are read is measured in pages.py.
DATABASE_URL and REDIS_URL are used where they are set.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.figures import Figure, options_of, report
from benchmarks.ingest import WARM_ROWS, Passage, pass_through, write_rows
from benchmarks.platform_up import platform_up

MEMORY_MB = 200


def figures(passages: Sequence[Passage]) -> list[Figure]:
    base = passages[min(1, len(passages) - 1)]
    found = []
    for passage in passages:
        of, is_last = f"{passage.rows:,} rows", passage is passages[-1]
        found.append(
            Figure(
                f"growth: time a row, {of}",
                passage.graded / passage.rows * 1000,
                "ms",
                base.graded / base.rows * 1000,
                f"{base.rows:,} rows",
                ratio_at_least=1 / 1.3 if is_last else None,
            )
        )
    found += [
        Figure(
            f"growth: processor time a row, {passage.rows:,} rows",
            passage.graded_processor / passage.rows * 1000,
            "ms",
            base.graded_processor / base.rows * 1000,
            f"{base.rows:,} rows",
        )
        for passage in passages
    ]
    for passage in passages:
        kind, most = max(passage.memory.items(), key=lambda item: item[1])
        found.append(
            Figure(
                f"growth: most memory of one process ({kind}), {passage.rows:,} rows",
                most,
                "MB",
                max(base.memory.values()),
                f"{base.rows:,} rows",
                at_most=MEMORY_MB,
            )
        )
    last = passages[-1]
    found += [
        Figure(
            f"growth: upload and run creation, {last.rows:,} rows",
            last.rows / last.ingested,
            "rows/s",
            base.rows / base.ingested,
            f"{base.rows:,} rows",
            at_least=25_000,
        ),
        Figure(
            f"growth: upload and run creation, {last.rows:,} rows, processor time a row",
            last.ingested_processor / last.rows * 1000,
            "ms",
            base.ingested_processor / base.rows * 1000,
            f"{base.rows:,} rows",
        ),
    ]
    return found


def main() -> None:
    options = options_of(__doc__, sizes=(10_000, 100_000, 1_000_000))
    passages = []
    with tempfile.TemporaryDirectory() as folder, platform_up() as platform:
        path = Path(folder) / "rows.jsonl"
        write_rows(path, WARM_ROWS)
        pass_through(platform, path, WARM_ROWS)  # imports are not what is measured
        for size in sorted(options.sizes):
            write_rows(path, size)
            passages.append(pass_through(platform, path, size))
            print(
                f"{size:>9,} rows: {passages[-1].graded:.1f} s graded "
                f"({passages[-1].graded_processor:.1f} s of the processor), "
                + ", ".join(f"{kind} {mb:.0f} MB" for kind, mb in passages[-1].memory.items()),
                flush=True,
            )
    report(figures(passages), options)


if __name__ == "__main__":
    main()
