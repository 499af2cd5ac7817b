"""Concurrency: the work of figure A with 1, 8 and 256 calls in flight, beside its own 64.

    .venv/bin/python benchmarks/concurrency.py [--in-flight 1,8,256] [--delay 0.05]
        [--rounds-in-flight 16] [--turns 5]

As many samples for each as keep its calls in flight for the same time at best. The bare loop asks
the same model server in turn with us, and the model server tells how many calls it had open at
once, which may never be more than the endpoint allows.
DATABASE_URL and REDIS_URL are used where they are set.
"""

import asyncio
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bare import ask
from benchmarks.chat_run import WARM_SAMPLES, our_run, questions
from benchmarks.figures import Figure, options_of, report
from benchmarks.platform_up import Platform, platform_up
from tests.model_server import ModelServer, running

WIDE = 256  # calls in flight, from which on the design says what is wanted


def figures_at(
    platform: Platform,
    server: ModelServer,
    eval_id: str,
    *,
    in_flight: int,
    samples: int,
    limit_seconds: float,
    turns: int,
) -> list[Figure]:
    model = f"m{in_flight}"
    platform.add_model_server(server, in_flight, model)
    our_run(platform, eval_id, min(samples, WARM_SAMPLES), model)
    bare, ours, most = [], [], 0
    for _ in range(turns):
        bare.append(asyncio.run(ask(server, questions(samples), in_flight)))
        server.reset()
        ours.append(our_run(platform, eval_id, samples, model))
        most = max(most, server.counts()["max_in_flight"])
    seconds, milliseconds = (statistics.median(values) for values in zip(*ours, strict=True))
    bare_seconds, bare_milliseconds = (
        statistics.median(values) for values in zip(*bare, strict=True)
    )
    work = f"concurrency: {in_flight} in flight, {samples:,} samples"
    is_widest = in_flight >= WIDE
    return [
        Figure(work, seconds, "s", limit_seconds, "physical limit"),
        Figure(
            work,
            seconds,
            "s",
            bare_seconds,
            "bare loop",
            ratio_at_least=0.8 if is_widest else None,
        ),
        Figure(
            f"{work}, processor time a sample",
            milliseconds,
            "ms",
            bare_milliseconds,
            "bare loop",
            ratio_at_least=0.5 if is_widest else None,
        ),
        Figure(
            f"{work}, most calls open at once",
            most,
            "calls",
            in_flight,
            "allowed",
            at_most=in_flight,
        ),
    ]


def main() -> None:
    options = options_of(__doc__, in_flight=(1, 8, 256), delay=0.05, rounds_in_flight=16, turns=5)
    found: list[Figure] = []
    with running(delay=options.delay) as server, platform_up() as platform:
        eval_id = platform.create_eval()
        for in_flight in options.in_flight:
            found += figures_at(
                platform,
                server,
                eval_id,
                in_flight=in_flight,
                samples=in_flight * options.rounds_in_flight,
                limit_seconds=options.delay * options.rounds_in_flight,
                turns=options.turns,
            )
            print(f"{in_flight} in flight: {found[-4].ours:.2f} s", flush=True)
    report(found, options)


if __name__ == "__main__":
    main()
