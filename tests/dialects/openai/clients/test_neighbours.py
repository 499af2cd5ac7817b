"""Tools of the field that speak to an OpenAI server, unmodified, against a live one of ours."""

import sys
from pathlib import Path

import pytest

from tests.dialects.openai.clients.test_openai_clients import go
from tests.shared_server import Platform

HERE = Path(__file__).parent


@pytest.mark.once("it asks for what the clients ask for")
@pytest.mark.parametrize("doors", [(), ("azure",)], ids=["base_url", "azure"])
def test_azure_ai_evaluation_goes_the_whole_way(platform: Platform, doors: tuple[str, ...]) -> None:
    script = [sys.executable, str(HERE / "azure_graders.py")]
    assert "went the whole way" in go(script, platform, words=doors)


@pytest.mark.once("it asks for what the clients ask for")
def test_openai_agents_goes_the_whole_way(platform: Platform) -> None:
    key = platform.open_account("agents", "echo-model", "tool:weather:answer:A hat")
    script = [sys.executable, str(HERE / "agent.py")]
    assert "went the whole way" in go(script, platform, key=key)
