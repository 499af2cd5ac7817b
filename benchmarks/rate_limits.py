"""Runs against model servers with a rate limit: errored rows, refused calls, calls a row.

    .venv/bin/python benchmarks/rate_limits.py [--shrink 1]

All runs go on at the same time, each against a server of its own, so it takes about six minutes:
as long as the slowest server makes its 30 rows take. --shrink divides the seconds of the limits.
The tests keep the counts and a tenth of the seconds.
"""

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.figures import Figure, options_of, report
from benchmarks.platform_up import Platform, platform_up
from tests.model_server import ModelServer, running

DELAY = 0.05
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Limit:
    """A server's limit: so many calls in so many seconds, and whether it says when to come back."""

    calls: int
    seconds: float
    rows: int
    tells: bool

    def model(self, shrink: float) -> str:
        says = "retry-after" if self.tells else "silent"
        return f"limited:{self.calls}:{self.seconds / shrink:g}:{says}"

    def __str__(self) -> str:
        told = "Retry-After" if self.tells else "without the header"
        return f"{self.calls} calls in {self.seconds:g} s, {told}, {self.rows} rows"


LIMITS = (Limit(5, 20, 30, True), Limit(5, 60, 30, True), Limit(20, 30, 60, False))
CONCURRENCIES = (64, 2)


def start(platform: Platform, server: ModelServer, limit: Limit, concurrency: int, model: str):
    platform.served.manage(
        *("add_endpoint", "--account", "benchmark", "--base-url", server.base_url),
        *("--concurrency", str(concurrency), "--allow-private"),
        *("--alias", f"{model}:{concurrency}={model}"),
    )
    rows = [{"item": {"question": f"q{i}", "answer": f"q{i}"}} for i in range(limit.rows)]
    data_source = {
        "type": "completions",
        "model": f"{model}:{concurrency}",
        "source": {"type": "file_content", "content": rows},
        "input_messages": {
            "type": "template",
            "template": [{"role": "user", "content": "{{ item.question }}"}],
        },
    }
    return platform.start_run(platform.create_eval(), data_source)


def figures(shrink: float) -> list[Figure]:
    found = []
    with ExitStack() as stack:
        platform = stack.enter_context(platform_up())
        going = []
        for concurrency in CONCURRENCIES:
            for limit in LIMITS:
                server = stack.enter_context(running(delay=DELAY))
                run = start(platform, server, limit, concurrency, limit.model(shrink))
                going.append((limit, concurrency, server, run, time.monotonic()))
        for limit, concurrency, server, run, began in going:
            run = platform.wait_for(run, limit.rows, POLL_SECONDS)
            found += of_run(limit, concurrency, server, run, time.monotonic() - began)
    return found


def of_run(
    limit: Limit, concurrency: int, server: ModelServer, run: dict, seconds: float
) -> list[Figure]:
    counts = server.counts()
    refused = sum(counts["refused"].values())
    told = sum(one["invocation_count"] for one in run["per_model_usage"])
    in_flight = min(concurrency, limit.rows)
    work = f"{limit}, {concurrency} in flight"
    print(
        f"{work}: {run['result_counts']['errored']} errored, {refused} refused, "
        f"{counts['total']} calls, {told} told, {seconds:.0f} s",
        flush=True,
    )
    most_a_row = 1.5 if limit.tells else 2.5
    calls_a_row = counts["total"] / limit.rows
    return [
        Figure(f"{work}: errored", run["result_counts"]["errored"], "rows", at_most=0),
        Figure(f"{work}: refused", refused, "calls", at_most=in_flight + limit.rows / 5)
        if concurrency > limit.calls
        else Figure(f"{work}: calls a row", calls_a_row, "calls", at_most=most_a_row),
        Figure(
            f"{work}: calls that per_model_usage lacks", counts["total"] - told, "calls", at_most=0
        ),
    ]


def main() -> None:
    options = options_of(__doc__, shrink=1.0)
    report(figures(options.shrink), options)


if __name__ == "__main__":
    main()
