"""Every benchmark still runs and says what it is for; its times are nobody's business here."""

import json
import sys
from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from apps.sandbox import find_runner
from benchmarks import __main__ as command
from benchmarks import platform_up
from benchmarks.__main__ import SCRIPTS, run_script, written
from benchmarks.figures import COLUMNS, Figure, text_table
from tests.shared_server import Platform

pytestmark = pytest.mark.once("figures are measured on both databases by `make bench`")


@pytest.fixture
def on_platform(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> Callable[[ModuleType], None]:
    """Has a script measure the shared server, with an account of its own."""

    def on_platform(script: ModuleType) -> None:
        monkeypatch.setattr(platform_up, "ACCOUNT", script.__name__)
        key = platform.served.manage("create_api_key", "--account", script.__name__).strip()
        measured = platform_up.Platform(platform.served, key)
        monkeypatch.setattr(script, "platform_up", lambda: closing(measured), raising=False)

    return on_platform


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("chat_run", "A: 64 chat samples, 64 in flight"),
        pytest.param(
            "python_graders",
            "python graders: 40 calls in ",
            marks=pytest.mark.skipif(find_runner() is None, reason="no sandbox on this machine"),
        ),
        ("text_metrics", "B: largest difference of a value"),
        ("ingest", "C: graded and stored, 600 rows"),
        ("pages", "pages: a page of 100 at the middle of 600 rows"),
        ("growth", "growth: time a row, 300 rows"),
        ("concurrency", "concurrency: 4 in flight, 16 samples, most calls open at once"),
        ("http_calls", "a call: processor time, ours"),
    ],
)
def test_a_benchmark_measures_what_it_is_for(
    name: str, says: str, on_platform, tmp_path: Path, monkeypatch, capsys
) -> None:
    script = import_module(f"benchmarks.{name}")
    on_platform(script)
    figures = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", [name, *SCRIPTS[name], "--json", str(figures)])
    assert not script.main()
    assert says in capsys.readouterr().out
    found = [Figure(**figure) for figure in json.loads(figures.read_text())]
    assert [figure for figure in found if figure.work.startswith(says)]
    assert all(figure.ours >= 0 for figure in found)


@pytest.mark.slow
def test_queries_are_timed_over_results_in_a_database_of_their_own() -> None:
    found = run_script("queries", SCRIPTS["queries"], {"DATABASE_URL": ""})
    names = {figure.work for figure in found}
    assert {"queries: a histogram of 20 bins, 3,000 results"} < names


def test_peers_that_are_not_installed_are_left_out(tmp_path: Path, capfd) -> None:
    assert run_script("peers", [*SCRIPTS["peers"], "--folder", str(tmp_path)], {}) == []
    printed = capfd.readouterr().out
    for name in ("Inspect", "lm-eval", "promptfoo"):
        assert f"{name} is not installed" in printed


def test_one_command_writes_all_figures_on_a_page_and_keeps_its_notes(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Old\n\n## Notes\n\nWhat stands in the way.\n")
    asked = []

    def measure(name: str, arguments: list[str], environment: dict[str, str]) -> list[Figure]:
        asked.append((name, arguments, environment["DATABASE_URL"]))
        return [Figure(f"{name}: speed", 30, "rows/s")]

    monkeypatch.setattr(command, "run_script", measure)
    options = ["--tiny", "--only", "start,growth", "--postgres", "postgres://x", "--write"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *options, str(page)])
    assert command.main() == 0
    tiny = [("start", SCRIPTS["start"]), ("growth", SCRIPTS["growth"])]
    assert asked == [(*one, url) for url in ("", "postgres://x") for one in tiny]
    assert "=== SQLite" in capsys.readouterr().out
    text = page.read_text()
    assert text.startswith("# Benchmarks\n")
    assert "- processor: " in text
    assert "| growth: speed | 30 rows/s" in text
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
