"""That every benchmark still runs and says what it is for; its times are nobody's business here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from apps.sandbox import find_runner
from benchmarks.__main__ import SCRIPTS, written
from benchmarks.figures import COLUMNS, Figure, text_table
from tests.served import ROOT


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("chat_run", "A: 64 chat samples, 64 in flight"),
        pytest.param(
            "python_graders",
            "python graders: 40 calls in ",
            marks=pytest.mark.skipif(find_runner() is None, reason="no sandbox on this machine"),
        ),
        ("ingest", "C: a page of 100 at the middle of 600 rows"),
        ("growth", "growth: time a row, 300 rows"),
        ("concurrency", "concurrency: 4 in flight, 16 samples, most calls open at once"),
    ],
)
def test_a_benchmark_measures_what_it_is_for(tmp_path: Path, script: str, says: str) -> None:
    figures = tmp_path / "figures.json"
    printed = run(f"benchmarks/{script}.py", *SCRIPTS[script], "--json", str(figures))
    assert says in printed
    found = [Figure(**figure) for figure in json.loads(figures.read_text())]
    assert [figure for figure in found if figure.work.startswith(says)]
    assert all(figure.ours >= 0 for figure in found)


def test_peers_that_are_not_installed_are_left_out(tmp_path: Path) -> None:
    printed = run("benchmarks/peers.py", *SCRIPTS["peers"], "--folder", str(tmp_path))
    for name in ("Inspect", "lm-eval", "promptfoo"):
        assert f"{name} is not installed" in printed


def test_one_command_writes_all_figures_on_a_page_and_keeps_its_notes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Old\n\n## Notes\n\nWhat stands in the way.\n")
    printed = run("-m", "benchmarks", "--tiny", "--only", "text_metrics", "--write", str(page))
    assert "=== SQLite" in printed
    text = page.read_text()
    assert text.startswith("# Benchmarks\n")
    assert "- processor: " in text
    assert "B: largest difference of a value" in text
    assert text.endswith("## Notes\n\nWhat stands in the way.\n")


def test_a_figure_is_reached_when_all_its_bounds_hold() -> None:
    assert Figure("speed", 30, "rows/s", 10, "x", at_least=20).reached is True
    assert Figure("speed", 10, "rows/s", 10, "x", at_least=20).reached is False
    assert Figure("time", 30, "ms", 20, "x", ratio_at_least=0.5).reached is True
    assert Figure("time", 50, "ms", 20, "x", ratio_at_least=0.5).reached is False
    assert Figure("time", 50, "ms", 20, "x").reached is None


def test_a_ratio_above_one_is_better_than_the_reference() -> None:
    assert Figure("speed", 30, "rows/s", 10).ratio == 3
    assert Figure("time", 30, "ms", 10).ratio == pytest.approx(1 / 3)
    assert Figure("memory", 30, "MB").ratio is None


def test_tables_have_a_column_for_each_part_of_a_figure() -> None:
    figure = Figure("C: graded", 3_000, "rows/s", 6_000, "bare loop", at_least=2_500)
    head, line = text_table([figure]).splitlines()
    assert tuple(head.split()) == COLUMNS
    assert line.split("  ")[-1].strip() == "yes"
    cells = "| C: graded | 3,000 rows/s | 6,000 (bare loop) | 0.500 | ≥ 2,500 rows/s | yes |"
    assert cells.replace("0.500", "0.5") in written({"SQLite": [figure]}, "")
