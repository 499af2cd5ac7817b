"""Hurt system after system by seeded schedules, and tell how many stood it.

python -m tests.faults --seeds 1-50 [--services] [--real-durations] [--jobs 2]
"""

import argparse
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed

from tests.faults.schedule import schedule
from tests.faults.trial import kinds_here, run_trial


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def seeds_of(text: str) -> list[int]:
    """`3` or `1-50`."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=seeds_of, default=seeds_of("1-50"))
    parser.add_argument("--services", action="store_true", help="on PostgreSQL and Redis")
    parser.add_argument("--real-durations", action="store_true", help="as they are installed")
    parser.add_argument("--jobs", type=int, default=1, help="systems at the same time")
    parser.add_argument("--patience", type=float, default=1, help="multiplies bounds on times")
    options = parser.parse_args()
    began = time.monotonic()
    failed = []
    with ThreadPoolExecutor(options.jobs) as pool:
        trials = {
            pool.submit(
                run_trial,
                seed,
                services=options.services,
                real=options.real_durations,
                patience=options.patience,
            ): seed
            for seed in options.seeds
        }
        for trial in as_completed(trials):
            error = trial.exception()
            if error is None:
                say(str(trial.result()))
            else:
                seed = trials[trial]
                failed.append(seed)
                faults = schedule(seed, kinds_here(services=options.services))
                say(f"seed {seed}: {'; '.join(map(str, faults))} -> FAILED")
                say("".join(traceback.format_exception(error)))
    where = "PostgreSQL with Redis" if options.services else "SQLite"
    stood = len(options.seeds) - len(failed)
    say(
        f"{stood} of {len(options.seeds)} schedules stood on {where}"
        f" in {time.monotonic() - began:.0f} s; failed: {sorted(failed) or 'none'}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
