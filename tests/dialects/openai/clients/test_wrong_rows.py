"""Which rows a run takes, and what it asks for, as vendors' notebooks rest on it."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.dialects.openai.clients.waiting import wait_over
from tests.shared_server import Platform

HEARD = {"id": "a", "data": "UklGRg==", "transcript": "Good morning", "expires_at": 1}
SPOKEN = f"choice:{json.dumps({'message': {'content': None, 'audio': HEARD}})}"
SPEAKS = f"told:modalities:told:audio:{SPOKEN}"
NO_SAMPLE: Any = {"type": "custom", "item_schema": {"type": "object"}}
WITH_SAMPLE: Any = {**NO_SAMPLE, "include_sample_schema": True}


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[openai.OpenAI]:
    key = platform.open_account("wrong rows", "echo", SPEAKS)
    with openai.OpenAI(base_url=platform.openai_url, api_key=key, max_retries=0) as client:
        yield client


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


def check(template: str, reference: str, operation: str = "eq") -> Any:
    sides = {"input": template, "reference": reference, "operation": operation}
    return {"type": "string_check", "name": template, **sides}


def items_of(client: openai.OpenAI, config: Any, criteria: Any, source: Any) -> list[Any]:
    made = client.evals.create(name="r", data_source_config=config, testing_criteria=criteria)
    run = wait_over(client, client.evals.runs.create(made.id, data_source=source))
    assert run.status == "completed", run
    return list(client.evals.runs.output_items.list(run.id, eval_id=made.id))


def test_a_limit_takes_the_most_recent_answers_the_oldest_of_them_first(
    client: openai.OpenAI,
) -> None:
    for number in range(5):
        asked: Any = {"model": "echo", "store": True, "metadata": {"n": str(number % 2)}}
        client.chat.completions.create(messages=said(f"chat {number}"), **asked)
        client.responses.create(input=f"response {number}", **asked)
    config: Any = {"type": "logs"}
    criteria = [check("{{ sample.output_text }}", "chat", "like")]
    stored, responses = "stored_completions", "responses"
    for kind, source, expected in (
        ("completions", {"type": stored, "limit": 2}, ["chat 3", "chat 4"]),
        ("responses", {"type": responses, "limit": 2}, ["response 3", "response 4"]),
        (
            "completions",
            {"type": stored, "limit": 2, "metadata": {"n": "0"}},
            ["chat 2", "chat 4"],
        ),
    ):
        items = items_of(client, config, criteria, {"type": kind, "source": source})
        assert [item.sample.output[0].content for item in items] == expected, source


def test_criteria_may_name_the_sample_of_rows_that_have_none(client: openai.OpenAI) -> None:
    criteria = [
        check("{{ sample.output_text }}", "Paris", "ne"),
        check("{{ sample.output_tools[0].function.name }}", "", "eq"),
        check("[{{ sample.output_json.city }}]", "[]", "eq"),
    ]
    rows: Any = [{"item": {"n": 1}}, {"item": {"n": 2}, "sample": {"output_text": "Rome"}}]
    source: Any = {"type": "jsonl", "source": {"type": "file_content", "content": rows}}
    items = items_of(client, NO_SAMPLE, criteria, source)
    assert [[result.passed for result in item.results] for item in items] == [[True] * 3] * 2


def test_audio_is_asked_for_and_heard(client: openai.OpenAI) -> None:
    rows: Any = [{"item": {"q": "Greet"}}]
    asked: Any = {
        "type": "completions",
        "model": SPEAKS,
        "source": {"type": "file_content", "content": rows},
        "input_messages": {"type": "template", "template": said("{{ item.q }}")},
        "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "wav"},
    }
    heard = [
        check("{{ sample.output_audio.transcript }}", "Good morning"),
        check("{{ sample.output_audio.data }}", HEARD["data"]),
    ]
    [item] = items_of(client, WITH_SAMPLE, heard, asked)
    assert item.status == "pass", item
    # The same of an answer that was recorded, as it came or in the keys of a sample.
    message = {"role": "assistant", "content": None, "audio": HEARD}
    whole = {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    own = {"output_text": "", "output_audio": HEARD}
    rows = [{"item": {}, "sample": whole}, {"item": {}, "sample": own}]
    source: Any = {"type": "jsonl", "source": {"type": "file_content", "content": rows}}
    items = items_of(client, WITH_SAMPLE, heard, source)
    assert [item.status for item in items] == ["pass", "pass"]
