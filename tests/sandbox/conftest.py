"""The runners of this machine; tests of a runner that it lacks are skipped."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apps.sandbox import CallResult, Case, Limits
from apps.sandbox.base import LONGEST_SECONDS
from apps.sandbox.pool import SandboxPool
from tests.patience import patience, slowness
from tests.sandbox.runners import EACH_KIND

# As long as a call may take, so that no slow machine meets a limit that is not meant.
SECONDS = min(patience(7.5), LONGEST_SECONDS)
# The time limit of calls that are meant to meet it, with harmless calls beside them under the same.
TIGHT = max(2.0, slowness())
LIMITS = Limits(seconds=SECONDS, memory_bytes=512 << 20, disk_bytes=4 << 20)
RIGHT = CallResult("scored", 0.5)
Run = Callable[..., list[CallResult]]


@pytest.fixture(scope="session", params=EACH_KIND.values(), ids=EACH_KIND)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SandboxPool:
    runner = request.param(tmp_path_factory.mktemp("slots"))
    refusal = runner.probe()
    if refusal is not None:
        pytest.skip(f"no sandbox on this machine: {refusal.message}")
    return runner


@pytest.fixture
def run(runner: SandboxPool) -> Run:
    """Run a source once for each item, under small limits of memory and disk."""

    def run(
        source: str, items: Sequence[dict[str, Any]], limits: Limits = LIMITS
    ) -> list[CallResult]:
        return runner.run(textwrap.dedent(source), [Case({}, item) for item in items], limits)

    return run


@pytest.fixture
def attack(run: Callable[..., list[CallResult]]) -> Callable[..., CallResult]:
    """Run the attack between two harmless cases, which must not notice; return how it ended."""

    def attack(body: str, seconds: float = SECONDS, **item: object) -> CallResult:
        source = "import os, sys, time\ndef attack(sample, item):\n"
        source += textwrap.indent(textwrap.dedent(body), "    ")
        source += (
            "\ndef grade(sample, item):\n"
            "    return attack(sample, item) if item['attacks'] else 0.5\n"
        )
        items = [{"attacks": False}, {"attacks": True} | item, {"attacks": False}]
        before, result, after = run(source, items, replace(LIMITS, seconds=seconds))
        assert (before, after) == (RIGHT, RIGHT)
        return result

    return attack


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("a secret of the host")
    file.chmod(0o644)
    return file
