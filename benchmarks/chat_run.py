"""Figure A: 2,000 chat samples, 64 in flight, exact match, stored; from POST to `completed`.

    .venv/bin/python benchmarks/chat_run.py [--samples 2000] [--delay 0.05] [--rounds 5]

A local model server answers after a fixed delay. In turns, within the same minute, a bare aiohttp
loop asks it and stores the answers in batches, and our server, started by `manage.py up` on a
fresh data directory, does the same for a client that has uploaded the rows as a file, creates a run
over HTTP and polls it every 100 ms: seldom enough that polls are not what is measured, often enough
that waiting for the last is not either. DATABASE_URL and REDIS_URL are used where they are set.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bare import ask
from benchmarks.figures import Figure, options_of, report
from benchmarks.platform_up import Platform, platform_up
from tests.model_server import running

IN_FLIGHT = 64
POLL_SECONDS = 0.1
MODEL = "m"
WARM_SAMPLES = 200


def questions(count: int) -> list[tuple[str, str]]:
    """Each with the reply that passes; the model server repeats what it is asked."""
    return [(f"Question {number}", f"Question {number}") for number in range(count)]


def our_run(platform: Platform, eval_id: str, samples: int, model: str) -> tuple[float, float]:
    """Seconds from POST to completed, and processor milliseconds a sample."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        with path.open("wb") as file:
            for asked, reply in questions(samples):
                row = {"item": {"question": asked, "answer": reply}}
                file.write(orjson.dumps(row) + b"\n")
        file_id = platform.upload(path)
    data_source = {
        "type": "completions",
        "model": model,
        "source": {"type": "file_id", "id": file_id},
        "input_messages": {
            "type": "template",
            "template": [{"role": "user", "content": "{{ item.question }}"}],
        },
    }
    used = platform.processor_seconds()
    began = time.perf_counter()
    run = platform.start_run(eval_id, data_source)
    platform.wait_for(run, samples, POLL_SECONDS)
    seconds = time.perf_counter() - began
    return seconds, (platform.processor_seconds() - used) / samples * 1000


def figures(samples: int, delay: float, rounds: int) -> list[Figure]:
    bare, ours = [], []
    with running(delay=delay) as server, platform_up() as platform:
        platform.add_model_server(server, IN_FLIGHT, MODEL)
        eval_id = platform.create_eval()
        # Imports are not what is measured.
        our_run(platform, eval_id, min(samples, WARM_SAMPLES), MODEL)
        for number in range(1, rounds + 1):
            bare.append(asyncio.run(ask(server, questions(samples), IN_FLIGHT)))
            ours.append(our_run(platform, eval_id, samples, MODEL))
            print(
                f"round {number}: bare loop {bare[-1][0]:.2f} s, ours {ours[-1][0]:.2f} s",
                flush=True,
            )
    seconds, milliseconds = (statistics.median(values) for values in zip(*ours, strict=True))
    bare_seconds, bare_milliseconds = (
        statistics.median(values) for values in zip(*bare, strict=True)
    )
    limit = samples / IN_FLIGHT * delay
    work = f"A: {samples:,} chat samples, {IN_FLIGHT} in flight, {delay * 1000:.0f} ms"
    return [
        Figure(work, seconds, "s", limit, "physical limit", ratio_at_least=0.85),
        Figure(work, seconds, "s", bare_seconds, "bare loop"),
        Figure(
            "A: processor time a sample, whole process tree",
            milliseconds,
            "ms",
            bare_milliseconds,
            "bare loop",
            ratio_at_least=0.4,
        ),
    ]


def main() -> None:
    options = options_of(__doc__, samples=2_000, delay=0.05, rounds=5)
    report(figures(options.samples, options.delay, options.rounds), options)


if __name__ == "__main__":
    main()
