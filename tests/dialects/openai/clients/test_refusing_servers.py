"""Model servers that refuse the key, or too many calls, through the vendor's client."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.dialects.openai.clients.waiting import wait_over
from tests.shared_server import Platform

DENYING, LIMITED = ("fail-401", "fail-403"), "limited:5:1.2:retry-after:client"
CRITERION: Any = {
    "type": "string_check",
    "name": "same",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.text }}",
    "operation": "eq",
}
CONFIG: Any = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[openai.OpenAI]:
    key = platform.open_account("refusing servers", *DENYING, LIMITED)
    with openai.OpenAI(base_url=platform.openai_url, api_key=key, max_retries=0) as client:
        yield client


def run_of(client: openai.OpenAI, model: str, rows: int) -> Any:
    made = client.evals.create(data_source_config=CONFIG, testing_criteria=[CRITERION])
    content = [{"item": {"text": f"row {number}"}} for number in range(rows)]
    source: Any = {
        "type": "completions",
        "model": model,
        "source": {"type": "file_content", "content": content},
        "input_messages": {
            "type": "template",
            "template": [{"role": "user", "content": "{{ item.text }}"}],
        },
    }
    return wait_over(client, client.evals.runs.create(made.id, data_source=source))


@pytest.mark.parametrize("model", DENYING)
def test_a_run_whose_key_is_refused_fails_with_the_servers_words(
    client: openai.OpenAI, model: str
) -> None:
    status = model.removeprefix("fail-")
    run = run_of(client, model, 50)
    assert (run.status, run.error.code) == ("failed", "model_server_refused")
    assert run.error.message == f"The model server answered {status}: answered {status} as asked"


def test_a_rate_limit_shows_in_nothing_but_the_calls(
    client: openai.OpenAI, platform: Platform
) -> None:
    run = run_of(client, LIMITED, 12)
    counts = run.result_counts
    assert (run.status, counts.passed, counts.errored) == ("completed", 12, 0)
    told = platform.models.counts()
    [usage] = run.per_model_usage
    assert usage.invocation_count == told["models"][LIMITED] == 12 + told["refused"][LIMITED]
