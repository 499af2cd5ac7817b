"""Time a thousand calls of a Python grader in each sandbox that this machine has.

    .venv/bin/python benchmarks/python_graders.py [--cases 1000] [--turns 5]

Starting the sandbox is part of it. The reference is the same function called by this process, which
no server would do with code it was sent.
"""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from apps.sandbox import Case, Limits, grading
from apps.sandbox.base import Runner
from apps.sandbox.choose import RUNNERS
from benchmarks.figures import Figure, options_of, report

SOURCE = """
def grade(sample, item):
    return float(sample["output_text"].strip().lower() == item["label"])
"""
LABELS = ("billing", "access", "bug")
MOST_SECONDS = 2


def made_cases(count: int) -> list[Case]:
    return [Case({"output_text": LABELS[at % 3]}, {"label": "bug"}) for at in range(count)]


def unguarded(cases: list[Case]) -> None:
    code = grading.prepare(SOURCE)
    for case in cases:
        grading.call(code, {"sample": case.sample, "item": case.item}, {})


def guarded(runner: Runner, cases: list[Case]) -> None:
    """Raises SystemExit when a case was not graded right."""
    ran = runner.run(SOURCE, cases, Limits())
    if [one.value for one in ran] != [float(case.sample["output_text"] == "bug") for case in cases]:
        raise SystemExit(f"{runner.name} graded wrong")


def processor_seconds() -> float:
    """Of this process and of all that it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> int:
    options = options_of(__doc__, cases=1000, turns=5)
    cases = made_cases(options.cases)
    ways: dict[str, Callable[[], None]] = {"": lambda: unguarded(cases)}
    with tempfile.TemporaryDirectory() as folder:
        for name, build in RUNNERS.items():
            runner = build(Path(folder))
            if refusal := runner.probe():
                print(f"{name}: {refusal.message}")
            else:
                ways[name] = partial(guarded, runner, cases)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(options.turns):
            for name, way in ways.items():
                began, used = time.perf_counter(), processor_seconds()
                way()
                taken[name].append((time.perf_counter() - began, processor_seconds() - used))
    wall, processor = (
        {name: statistics.median(one[index] for one in took) for name, took in taken.items()}
        for index in (0, 1)
    )
    figures = []
    for name in [*ways][1:]:
        work, against = f"python graders: {len(cases):,} calls in {name}", "without a sandbox"
        figures += [
            Figure(work, wall[name], "s", wall[""], against, at_most=MOST_SECONDS),
            Figure(f"{work}, processor time", processor[name], "s", processor[""], against),
        ]
    report(figures, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
