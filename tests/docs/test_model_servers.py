"""Each server that docs/model-servers.md speaks of is imitated by tests, and none is left out."""

import re

from tests.imitations import LEARNED, SERVERS
from tests.served import ROOT

PAGE = (ROOT / "docs" / "model-servers.md").read_text(encoding="utf-8")
NAMES = {
    "vLLM": "vllm",
    "Ollama": "ollama",
    "llama.cpp": "llama.cpp",
    "LM Studio": "lm-studio",
    "Azure": "azure",
    "Mistral": "mistral",
    "Gemini's OpenAI route": "gemini",
    "OpenRouter": "openrouter",
    "LiteLLM": "litellm",
}


def test_every_server_on_the_page_is_imitated():
    table = PAGE.partition("## Server by server")[2]
    rows = re.findall(r"^\| ([^|`]+?) \| `http", table, re.MULTILINE)
    assert [NAMES[name] for name in rows] == [*SERVERS]
    assert {*SERVERS} == {*LEARNED, "azure"}
