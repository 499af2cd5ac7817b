"""The runners that this machine can be trusted with; without any, what needs one is skipped."""

import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from apps.evaluations.sandbox import Case, Limits, Ran
from apps.evaluations.sandbox.bubblewrap import Bubblewrap

LIMITS = Limits(seconds=30, memory_bytes=512 << 20, disk_bytes=4 << 20)
Run = Callable[..., list[Ran]]


# Root offers the first only; it runs the attacks in the other too, which are about the namespace.
WAYS = (
    {"as root": True, "user namespace": False} if os.geteuid() == 0 else {"user namespace": False}
)


@pytest.fixture(scope="session", params=WAYS.values(), ids=WAYS)
def runner(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bubblewrap:
    runner = Bubblewrap(tmp_path_factory.mktemp("slots"), as_root=request.param)
    refusal = runner.probe()
    if refusal is not None:
        pytest.skip(f"no sandbox on this machine: {refusal.message}")
    return runner


@pytest.fixture
def run(runner: Bubblewrap) -> Run:
    """Runs a source whose grade() is given these items, under limits that are soon met."""

    def run(source: str, items: Sequence[dict[str, Any]], limits: Limits = LIMITS) -> list[Ran]:
        return runner.run(textwrap.dedent(source), [Case({}, item) for item in items], limits)

    return run


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("a secret of the host")
    file.chmod(0o644)
    return file
