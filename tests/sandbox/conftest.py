"""The runners that this machine can be trusted with; without any, what needs one is skipped."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apps.sandbox import CallResult, Case, Limits
from apps.sandbox.pool import SandboxPool
from tests.sandbox.ways import WAYS

LIMITS = Limits(seconds=30, memory_bytes=512 << 20, disk_bytes=4 << 20)
ATTACK_LIMITS = Limits(memory_bytes=512 << 20, disk_bytes=4 << 20)
RIGHT = CallResult("scored", 0.5)
Run = Callable[..., list[CallResult]]


@pytest.fixture(scope="session", params=WAYS.values(), ids=WAYS)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SandboxPool:
    runner = request.param(tmp_path_factory.mktemp("slots"))
    refusal = runner.probe()
    if refusal is not None:
        pytest.skip(f"no sandbox on this machine: {refusal.message}")
    return runner


@pytest.fixture
def run(runner: SandboxPool) -> Run:
    """Runs a source whose grade() is given these items, under limits that are soon met."""

    def run(
        source: str, items: Sequence[dict[str, Any]], limits: Limits = LIMITS
    ) -> list[CallResult]:
        return runner.run(textwrap.dedent(source), [Case({}, item) for item in items], limits)

    return run


@pytest.fixture
def attack(run: Callable[..., list[CallResult]]) -> Callable[..., CallResult]:
    """Runs the attack between two harmless cases, which must not notice; how the attack ended."""

    def attack(body: str, seconds: float = 30, **item: object) -> CallResult:
        source = "import os, sys, time\ndef attack(sample, item):\n"
        source += textwrap.indent(textwrap.dedent(body), "    ")
        source += (
            "\ndef grade(sample, item):\n"
            "    return attack(sample, item) if item['attacks'] else 0.5\n"
        )
        items = [{"attacks": False}, {"attacks": True} | item, {"attacks": False}]
        before, result, after = run(source, items, replace(ATTACK_LIMITS, seconds=seconds))
        assert (before, after) == (RIGHT, RIGHT)
        return result

    return attack


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("a secret of the host")
    file.chmod(0o644)
    return file
