"""Settings of a model server and the forms of its answers, as the vendor's client sees them."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.dialects.openai.clients.waiting import wait_over
from tests.shared_server import Platform

THOUGHT = "answer:<think>\nfour?\n</think>\n\n4"
CUT = "answer:<think>four, or is it"
PARTS = "choice:" + json.dumps(
    {
        "message": {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "four?"}]},
                {"type": "text", "text": "fo"},
                {"type": "text", "text": "ur"},
            ]
        }
    }
)
TEXTS = "choice:" + json.dumps({"message": {"content": ["fo", {"type": "text", "text": "ur"}]}})
NO_TEXT = "choice:" + json.dumps({"message": {"content": []}, "finish_reason": "stop"})


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[openai.OpenAI]:
    key = platform.open_account("settings", THOUGHT, CUT, PARTS, TEXTS, NO_TEXT, "hang")
    server = ("--account", "settings", "--base-url", platform.models.base_url)
    platform.served.manage("add_endpoint", *server, "--strip-think", "--call-seconds", "1")
    with openai.OpenAI(base_url=platform.openai_url, api_key=key, max_retries=0) as client:
        yield client


def answers(client: openai.OpenAI, model: str) -> Any:
    config: Any = {
        "type": "custom",
        "item_schema": {"type": "object", "properties": {"text": {"type": "string"}}},
        "include_sample_schema": True,
    }
    criterion: Any = {
        "type": "string_check",
        "name": "is four",
        "input": "{{ sample.output_text }}",
        "reference": "four",
        "operation": "eq",
    }
    made = client.evals.create(data_source_config=config, testing_criteria=[criterion])
    source: Any = {
        "type": "completions",
        "model": model,
        "source": {"type": "file_content", "content": [{"item": {"text": "2 + 2?"}}]},
        "input_messages": {
            "type": "template",
            "template": [{"role": "user", "content": "{{ item.text }}"}],
        },
    }
    run = wait_over(client, client.evals.runs.create(made.id, data_source=source))
    [item] = client.evals.runs.output_items.list(run.id, eval_id=made.id)
    return item


@pytest.mark.parametrize("model", [PARTS, TEXTS])
def test_an_answer_in_parts_is_its_joined_text(model: str, client: openai.OpenAI) -> None:
    item = answers(client, model)
    assert item.sample.output[0].content == "four"
    assert item.status == "pass"
    said: Any = [{"role": "user", "content": "2 + 2?"}]
    live = client.chat.completions.create(model=model, messages=said)
    assert live.choices[0].message.content == "four"


def test_an_answer_without_a_part_is_an_empty_text(client: openai.OpenAI) -> None:
    assert answers(client, NO_TEXT).sample.output[0].content == ""


@pytest.mark.parametrize(("model", "text"), [(THOUGHT, "4"), (CUT, "")])
def test_a_think_block_is_stripped_from_answers_and_kept_beside(
    model: str, text: str, client: openai.OpenAI
) -> None:
    message = answers(client, model).sample.output[0]
    assert message.content == text
    assert "four" in message.to_dict()["reasoning_content"]
    said: Any = [{"role": "user", "content": "2 + 2?"}]
    live = client.chat.completions.create(model=model, messages=said)
    assert live.choices[0].message.content == text
    stream = client.chat.completions.create(model=model, messages=said, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(pieces) == text


def test_a_call_is_cut_after_the_endpoints_own_time(client: openai.OpenAI) -> None:
    error = answers(client, "hang").sample.error
    assert error.code == "model_timeout"
    assert "within 1 seconds" in error.message


def test_an_answer_in_parts_that_a_row_brings_is_its_joined_text_too(
    client: openai.OpenAI,
) -> None:
    config: Any = {
        "type": "custom",
        "item_schema": {"type": "object"},
        "include_sample_schema": True,
    }
    criterion: Any = {
        "type": "string_check",
        "name": "is four",
        "input": "{{ sample.output_text }}",
        "reference": "four",
        "operation": "eq",
    }
    made = client.evals.create(data_source_config=config, testing_criteria=[criterion])
    parts = [{"type": "text", "text": "fo"}, {"type": "text", "text": "ur"}]
    sample = {"choices": [{"message": {"role": "assistant", "content": parts}}]}
    source: Any = {
        "type": "jsonl",
        "source": {"type": "file_content", "content": [{"item": {}, "sample": sample}]},
    }
    run = wait_over(client, client.evals.runs.create(made.id, data_source=source))
    [item] = client.evals.runs.output_items.list(run.id, eval_id=made.id)
    assert item.sample.output[0].content == "four"
    assert item.status == "pass"
