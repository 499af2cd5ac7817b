"""All benchmarks, one after the other, and one table of their figures.

    .venv/bin/python -m benchmarks [--postgres URL --redis URL] [--only ingest,growth] [--write]

Each runs as a command of its own, on SQLite and, where it is named, on PostgreSQL with Redis.
--write puts the tables and the machine on docs/benchmarks.md; what stands there under "Notes" is
kept. --tiny shows in a minute that everything runs; its figures mean nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.figures import ROOT, Figure, machine, markdown_table, text_table

# Each script with what makes it tiny.
SCRIPTS: dict[str, list[str]] = {
    "start": ["--rounds", "1", "--clone", "0"],
    "chat_run": ["--samples", "64", "--rounds", "1", "--delay", "0.001"],
    "text_metrics": ["--pairs", "40", "--library-pairs", "20", "--turns", "1"],
    "python_graders": ["--cases", "40", "--turns", "1"],
    "ingest": ["--rows", "600", "--turns", "1"],
    "pages": ["--rows", "600", "--pages", "1", "--turns", "1"],
    "queries": ["--sizes", "3000", "--turns", "1"],
    "growth": ["--sizes", "100,300"],
    "concurrency": [
        *("--in-flight", "1,4", "--rounds-in-flight", "4", "--delay", "0.001", "--turns", "1")
    ],
    "claims": ["--workers", "2", "--shards", "100", "--rounds", "1"],
    "http_calls": ["--calls", "200", "--rounds", "1"],
    "peers": ["--samples", "20", "--delay", "0.001"],
}
# What is the same on every database, and so is measured on the first alone.
ONCE = ("python_graders", "http_calls", "peers")
ONCE_OPTIONS = {"start": ["--clone", "0"]}  # of the later ones
PAGE = ROOT / "docs" / "benchmarks.md"
NOTES = "## Notes\n"
OPENING = """# Benchmarks

Made by `make bench`, never by hand but for the notes. Every reference was measured in turn with our
figure in the same run, and most figures are medians of five turns. The ratio is of speed, or of
thrift where less is better: 1 is as good as the reference, more is better. Machines differ, so the
ratios are what counts, and beside those of wall time stand those of processor time. What is wanted
stands in the design's table of figures.
"""


def run_script(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        script = str(ROOT / "benchmarks" / f"{name}.py")
        command = [sys.executable, script, *arguments, "--json", str(path)]
        print(f"\n--- {name} {' '.join(arguments)}", flush=True)
        done = subprocess.run(command, env={**os.environ, **environment}, check=False)
        if done.returncode:
            print(f"{name} ended with exit status {done.returncode}", flush=True)
        return [Figure(**found) for found in json.loads(path.read_text())] if path.exists() else []


def written(tables: Mapping[str, Sequence[Figure]], notes: str) -> str:
    """The page: the machine, a table for each database, and the notes that stood there."""
    facts = "\n".join(f"- {name}: {value}" for name, value in machine().items())
    parts = [OPENING, facts + "\n"]
    parts += [f"## {name}\n\n{markdown_table(found)}\n" for name, found in tables.items()]
    return "\n".join([*parts, NOTES + notes])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--postgres", default="", help="postgres://…, run there as well")
    parser.add_argument("--redis", default="", help="redis://…, the queue beside PostgreSQL")
    parser.add_argument("--only", default=",".join(SCRIPTS), help="names, with commas between")
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that it runs")
    parser.add_argument("--write", nargs="?", type=Path, const=PAGE, help=f"default: {PAGE.name}")
    options = parser.parse_args()
    services = {"SQLite": {"DATABASE_URL": "", "REDIS_URL": ""}}
    if options.postgres:
        own = {"DATABASE_URL": options.postgres, "REDIS_URL": options.redis}
        services["PostgreSQL and Redis" if options.redis else "PostgreSQL"] = own

    names = options.only.split(",")
    tables: dict[str, list[Figure]] = {}
    failed = False
    for service, environment in services.items():
        tables[service] = []
        is_first = len(tables) == 1
        for name in names:
            if name in ONCE and not is_first:
                continue
            arguments = [] if is_first else ONCE_OPTIONS.get(name, [])
            found = run_script(name, SCRIPTS[name] if options.tiny else arguments, environment)
            # Only a peer may be missing.
            failed |= not found and name != "peers"
            tables[service] += found
    for service, found in tables.items():
        print(f"\n=== {service}\n{text_table(found)}")
    if options.write:
        before = options.write.read_text() if options.write.exists() else ""
        options.write.write_text(written(tables, before.partition(NOTES)[2]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
