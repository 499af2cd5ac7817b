"""The vendor's own client libraries, unmodified, against a live server with real workers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import patience
from tests.served import ROOT, free_port
from tests.shared_server import Platform

HERE = Path(__file__).parent
# Made by `make clients`.
OLD_PYTHON = ROOT / ".venv" / "clients" / "openai-1x" / "bin" / "python"
NODE_MODULES = ROOT / ".venv" / "clients" / "node" / "node_modules"


def go(
    command: list[str],
    platform: Platform,
    *,
    key: str = "",
    words: tuple[str, ...] = (),
    **environment: str,
) -> str:
    done = subprocess.run(
        [*command, platform.openai_url, key or platform.key, "echo-model", *words],
        env={**os.environ, "WAIT_SECONDS": str(patience(60)), **environment},
        capture_output=True,
        text=True,
        timeout=patience(180),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def skip_unless(there: bool, what: str) -> None:
    if not there:
        assert not os.environ.get("CI"), f"{what} is missing in CI"
        pytest.skip(f"{what} is missing: run `make clients`")


def test_the_python_client_goes_the_whole_way_sync_and_async(platform: Platform) -> None:
    assert "went the whole way" in go([sys.executable, str(HERE / "journey.py")], platform)


@pytest.mark.once("it asks for what the new one asks for")
def test_an_old_python_client_goes_the_whole_way_too(platform: Platform) -> None:
    skip_unless(OLD_PYTHON.exists(), "the openai 1.x client")
    assert "openai 1." in go([str(OLD_PYTHON), str(HERE / "journey.py")], platform)


@pytest.mark.once("it asks for what the Python client asks for")
def test_the_node_client_goes_the_whole_way(platform: Platform) -> None:
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    skip_unless(NODE_MODULES.exists(), "the openai client for Node")
    key, port = platform.open_account("node", "echo-model", "slow:30"), free_port()
    url = ("--url", f"http://127.0.0.1:{port}/", "--allow-private")
    secret = platform.served.manage("add_webhook", "--account", "node", *url).strip()
    hook = {"HOOK_PORT": str(port), "HOOK_SECRET": secret}
    script = ["node", str(HERE / "journey.cjs")]
    assert "for Node" in go(script, platform, key=key, NODE_PATH=str(NODE_MODULES), **hook)
