"""Time a thousand calls of a Python grader in each sandbox that this machine has.

    .venv/bin/python benchmarks/python_graders.py [--cases 1000]

Starting the sandbox is part of it. The reference is the same function called by this process, which
no server would do with code it was sent.
"""

import sys
import tempfile
import time
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


def seconds_unguarded(cases: list[Case]) -> float:
    began = time.perf_counter()
    code = grading.prepare(SOURCE)
    for case in cases:
        grading.call(code, {"sample": case.sample, "item": case.item}, {})
    return time.perf_counter() - began


def seconds_guarded(runner: Runner, cases: list[Case]) -> float:
    """Raises SystemExit when a case was not graded right."""
    began = time.perf_counter()
    ran = runner.run(SOURCE, cases, Limits())
    seconds = time.perf_counter() - began
    if [one.value for one in ran] != [float(case.sample["output_text"] == "bug") for case in cases]:
        raise SystemExit(f"{runner.name} graded wrong")
    return seconds


def main() -> int:
    options = options_of(__doc__, cases=1000)
    cases = made_cases(options.cases)
    reference = seconds_unguarded(cases)
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for name, build in RUNNERS.items():
            runner = build(Path(folder))
            if refusal := runner.probe():
                print(f"{name}: {refusal.message}")
                continue
            figures.append(
                Figure(
                    f"python graders: {len(cases):,} calls in {name}",
                    seconds_guarded(runner, cases),
                    "s",
                    reference,
                    "without a sandbox",
                    at_most=MOST_SECONDS,
                )
            )
    report(figures, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
