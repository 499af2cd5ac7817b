"""Report a benchmark: figures with their ratio and bound, a table of them, the machine."""

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ("work", "ours", "reference", "ratio", "wanted", "reached")


@dataclass(frozen=True)
class Figure:
    """One measured value beside another that was measured in the same run.

    unit: of both values; of one that ends in /s more is better, of any other less. against: what
    the reference is. at_least, at_most: bounds of our value; ratio_at_least: of the ratio.
    """

    work: str
    ours: float
    unit: str
    reference: float | None = None
    against: str = ""
    at_least: float | None = None
    at_most: float | None = None
    ratio_at_least: float | None = None

    @property
    def ratio(self) -> float | None:
        """Our speed or thrift beside the reference's: 1 is as good, more is better."""
        if not self.reference or not self.ours:
            return None
        return self.ours / self.reference if self.more_is_better else self.reference / self.ours

    @property
    def more_is_better(self) -> bool:
        return self.unit.endswith("/s")

    @property
    def reached(self) -> bool | None:
        """Tell whether every bound holds; None where there is none."""
        held = [
            bound <= value if low else value <= bound
            for value, bound, low in (
                (self.ours, self.at_least, True),
                (self.ours, self.at_most, False),
                (self.ratio or 0.0, self.ratio_at_least, True),
            )
            if bound is not None
        ]
        return all(held) if held else None

    def cells(self) -> tuple[str, ...]:
        wanted = [
            f"{sign} {shown(bound)}{unit}"
            for sign, bound, unit in (
                ("≥", self.at_least, f" {self.unit}"),
                ("≤", self.at_most, f" {self.unit}"),
                ("ratio ≥", self.ratio_at_least, ""),
            )
            if bound is not None
        ]
        reference = f"{shown(self.reference)} ({self.against})" if self.reference else ""
        return (
            self.work,
            f"{shown(self.ours)} {self.unit}",
            reference,
            "" if self.ratio is None else shown(self.ratio),
            ", ".join(wanted),
            {True: "yes", False: "NO", None: ""}[self.reached],
        )


def shown(value: float) -> str:
    """Three digits that count: 12,345 · 123 · 12.3 · 1.23 · 0.0123."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}" if value < 1 else f"{value:.2f}"


def text_table(figures: Sequence[Figure]) -> str:
    lines = [COLUMNS, *(figure.cells() for figure in figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown_table(figures: Iterable[Figure]) -> str:
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(figure.cells() for figure in figures)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def database() -> str:
    """The kind of database that a served instance uses here."""
    return "PostgreSQL" if os.environ.get("DATABASE_URL", "").startswith("postgres") else "SQLite"


def options_of(description: str | None, **defaults: Any) -> argparse.Namespace:
    """The command line of a benchmark: an option for each default, of its type, and --json.

    A default that is a tuple of numbers is given as numbers with commas between.
    """

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(number) for number in text.split(","))

    parser = argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])
    for name, default in defaults.items():
        kind = numbers if isinstance(default, tuple) else type(default)
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=default, help=f"default: {default}"
        )
    parser.add_argument("--json", type=Path, help="a file to write the figures to")
    return parser.parse_args()


def report(figures: Sequence[Figure], options: argparse.Namespace) -> None:
    print(f"\n{database()}\n{text_table(figures)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures]))


def machine() -> dict[str, str]:
    """Describe the machine that the figures were measured on, and say when."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = named[0] if named else model
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(),
        "Python": platform.python_version(),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": _git("describe", "--always", "--dirty=, with changes") or "unknown",
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
