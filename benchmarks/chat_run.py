"""Figure A: 2,000 chat samples, 64 in flight, exact match, stored; from POST to `completed`.

    .venv/bin/python benchmarks/chat_run.py [--samples 2000] [--delay 0.05] [--rounds 3]

A local model server answers after a fixed delay. In turns, within the same minute, a bare aiohttp
loop asks it and stores the answers in batches in SQLite, and our server, started by
`manage.py up` on a fresh data directory, does the same for a client that creates a run over HTTP
and polls it every 20 ms. Prints seconds, CPU per sample over the whole process tree, and ratios.
DATABASE_URL and REDIS_URL are used where they are set.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import aiohttp
import orjson
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.model_server import ModelServer, running
from tests.served import Served

IN_FLIGHT = 64
POLL_SECONDS = 0.02
FLUSH_ROWS = 500


def rows(samples: int) -> list[dict]:
    return [
        {"item": {"question": f"Question {n}", "answer": f"Question {n}"}} for n in range(samples)
    ]


async def bare_loop(server: ModelServer, samples: int, path: Path) -> float:
    """Seconds for the least that anyone could do: ask, compare, insert in batches."""
    table = sqlite3.connect(path)
    table.execute("PRAGMA journal_mode=WAL")
    table.execute("CREATE TABLE IF NOT EXISTS result (number INTEGER, reply TEXT, passed INTEGER)")
    waiting = iter(rows(samples))
    done: list[tuple[int, str, bool]] = []

    def flush() -> None:
        with table:
            table.executemany("INSERT INTO result VALUES (?, ?, ?)", done)
        done.clear()

    async def work(session: aiohttp.ClientSession) -> None:
        for row in waiting:
            question = row["item"]["question"]
            body = {"model": "m", "messages": [{"role": "user", "content": question}]}
            async with session.post(
                f"{server.base_url}/chat/completions", data=orjson.dumps(body)
            ) as response:
                reply = orjson.loads(await response.read())["choices"][0]["message"]["content"]
            done.append((len(done), reply, reply == row["item"]["answer"]))
            if len(done) >= FLUSH_ROWS:
                flush()

    began = time.perf_counter()
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(work(session) for _ in range(IN_FLIGHT)))
    flush()
    seconds = time.perf_counter() - began
    table.close()
    return seconds


class Api:
    """The few requests of the OpenAI wire that the benchmark needs."""

    def __init__(self, base_url: str, key: str) -> None:
        self.base_url = base_url
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: object = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.base_url}/v1{path}", data=data, headers=self.headers, method=method
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)


def tree_cpu(served: Served) -> float:
    """CPU seconds that the whole process tree has used so far, ended children included."""
    total = 0.0
    for process in served.processes():
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def our_run(api: Api, eval_id: str, samples: int, served: Served) -> tuple[float, float]:
    """Seconds from POST to completed, and CPU milliseconds per sample."""
    source = {"type": "file_content", "content": rows(samples)}
    template = [{"role": "user", "content": "{{ item.question }}"}]
    body = {
        "data_source": {
            "type": "completions",
            "model": "m",
            "source": source,
            "input_messages": {"type": "template", "template": template},
        }
    }
    cpu = tree_cpu(served)
    began = time.perf_counter()
    run = api.call("POST", f"/evals/{eval_id}/runs", body)
    while run["status"] not in ("completed", "failed", "canceled"):
        time.sleep(POLL_SECONDS)
        run = api.call("GET", f"/evals/{eval_id}/runs/{run['id']}")
    seconds = time.perf_counter() - began
    if run["status"] != "completed" or run["result_counts"]["passed"] != samples:
        raise SystemExit(f"the run ended as {run['status']}: {run['result_counts']} {run['error']}")
    return seconds, (tree_cpu(served) - cpu) / samples * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--delay", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    samples = options.samples
    limit = samples / IN_FLIGHT * options.delay
    with (
        tempfile.TemporaryDirectory() as folder,
        running(delay=options.delay) as server,
        Served(Path(folder) / "data") as served,
    ):
        key = served.manage("create_api_key", "--account", "benchmark").strip()
        served.manage(
            *("add_endpoint", "--account", "benchmark", "--base-url", server.base_url),
            *("--concurrency", str(IN_FLIGHT), "--allow-private", "m"),
        )
        api = Api(served.base_url, key)
        evaluation = api.call(
            "POST",
            "/evals",
            {
                "name": "figure A",
                "data_source_config": {
                    "type": "custom",
                    "item_schema": {"type": "object"},
                    "include_sample_schema": True,
                },
                "testing_criteria": [
                    {
                        "type": "string_check",
                        "name": "exact",
                        "input": "{{ sample.output_text }}",
                        "reference": "{{ item.answer }}",
                        "operation": "eq",
                    }
                ],
            },
        )
        our_run(api, evaluation["id"], 200, served)  # imports are not what is measured
        bare, ours, cpu = [], [], []
        for number in range(options.rounds):
            bare.append(asyncio.run(bare_loop(server, samples, Path(folder) / f"bare{number}")))
            seconds, milliseconds = our_run(api, evaluation["id"], samples, served)
            ours.append(seconds)
            cpu.append(milliseconds)
            print(
                f"round {number + 1}: bare loop {bare[-1]:.2f} s, ours {seconds:.2f} s", flush=True
            )
    database = os.environ.get("DATABASE_URL", "sqlite").split(":")[0]
    middle = statistics.median(ours)
    print(f"\n{samples} samples, {IN_FLIGHT} in flight, {options.delay * 1000:.0f} ms, {database}")
    print(f"{'':28}seconds   ratio to limit")
    for name, seconds in (
        ("physical limit", limit),
        ("bare aiohttp loop", statistics.median(bare)),
        ("ours, POST to completed", middle),
    ):
        print(f"{name:28}{seconds:7.2f}   {limit / seconds:.2f}")
    print(f"ratio of ours to the bare loop: {statistics.median(bare) / middle:.2f}")
    print(f"our CPU per sample, whole process tree: {statistics.median(cpu):.2f} ms")


if __name__ == "__main__":
    main()
