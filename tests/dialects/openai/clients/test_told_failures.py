"""Failures that a model server tells inside a 200, through the vendor's client."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.dialects.openai.clients.waiting import wait_over
from tests.shared_server import Platform


def choice(reason: str | None, content: str | None = None, **fields: Any) -> str:
    fields = {"finish_reason": reason, "message": {"content": content}, **fields}
    return f"choice:{json.dumps(fields)}"


LOST = {"code": 502, "message": "The provider went away"}
# A model -> the code of the error, and a word of its message.
FAILURES = {
    choice("error", error=LOST): ("model_server_error", "The provider went away"),
    choice("stop", "half an", native_finish_reason="network_error"): (
        "model_server_error",
        "network_error",
    ),
    choice("network_error"): ("model_server_error", "network_error"),
    choice("error", error={"code": 400, "message": "Too long"}): ("model_rejected", "Too long"),
    'body:{"error": {"code": 400, "message": "Flagged"}}': ("model_rejected", "Flagged"),
    choice("content_filter"): ("content_filter", "content filter"),
    choice("content_filter: SAFETY", ""): ("content_filter", "content filter"),
    choice("sensitive"): ("content_filter", "content filter"),
    choice("length"): ("length", "limit of tokens"),
    choice("max_tokens", "\n\n"): ("length", "limit of tokens"),
    choice("length", reasoning_content="hm"): ("length", "limit of tokens"),
}
# What says something is an answer, however it ended.
ANSWERS = [choice("length", "polite, to a po"), choice("content_filter", "polite"), choice("stop")]
HELPED = f"flaky:1:retry-helps:{choice('length')}"
FILTERED, CUT, BROKEN = choice("content_filter"), choice("length"), choice("network_error")

CRITERIA: Any = [
    {
        "type": "string_check",
        "name": f"no {word}",
        "input": "{{ sample.output_text }}",
        "reference": word,
        "operation": "ne",
    }
    for word in ("a", "b")
]
CONFIG: Any = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[openai.OpenAI]:
    key = platform.open_account("told failures", *FAILURES, *ANSWERS, HELPED)
    with openai.OpenAI(base_url=platform.openai_url, api_key=key, max_retries=0) as client:
        yield client


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_a_failure_inside_a_200_errs_its_item_with_the_reason_and_shows_what_was_said(
    client: openai.OpenAI,
) -> None:
    made = client.evals.create(name="told", data_source_config=CONFIG, testing_criteria=CRITERIA)

    def start(model: str) -> Any:
        source: Any = {
            "type": "completions",
            "model": model,
            "source": {"type": "file_content", "content": [{"item": {"q": "one two"}}]},
            "input_messages": {"type": "template", "template": said("{{ item.q }}")},
        }
        return client.evals.runs.create(made.id, data_source=source)

    started = {model: start(model) for model in (*FAILURES, *ANSWERS, HELPED)}
    runs = {model: wait_over(client, run) for model, run in started.items()}
    for model, run in runs.items():
        assert run.status == "completed", (model, run.error)
        [item] = client.evals.runs.output_items.list(run.id, eval_id=made.id)
        if model not in FAILURES:
            assert item.status == "pass", (model, item)
            continue
        code, word = FAILURES[model]
        assert (item.status, run.result_counts.errored) == ("error", 1), (model, item)
        assert item.sample.error is not None
        assert item.sample.error.code == code, model
        assert word in item.sample.error.message, model
        for result in item.results:
            assert (result.score, result.passed) == (0, False)
            assert result.error == {"code": code, "message": item.sample.error.message}  # type: ignore[attr-defined]  # the types lack it
        # What was said before the end is not lost.
        texts = [one.content for one in item.sample.output]
        assert "half an" not in model or texts == ["half an"]
    usage = {model: run.per_model_usage[0] for model, run in runs.items()}
    assert (usage[FILTERED].invocation_count, usage[FILTERED].prompt_tokens) == (1, 2)
    assert (usage[HELPED].invocation_count, usage[HELPED].prompt_tokens) == (2, 4)
    assert (usage[BROKEN].invocation_count, usage[BROKEN].prompt_tokens) == (5, 10)


def test_a_response_without_a_word_is_incomplete_and_a_broken_one_is_none(
    client: openai.OpenAI,
) -> None:
    for model, reason in (
        (FILTERED, "content_filter"),
        (choice("sensitive"), "content_filter"),
        (CUT, "max_output_tokens"),
        (choice("max_tokens", "\n\n"), "max_output_tokens"),
    ):
        response = client.responses.create(model=model, input="Hi")
        assert response.status == "incomplete"
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == reason
        assert client.responses.retrieve(response.id).status == "incomplete"
    with pytest.raises(openai.InternalServerError, match="network_error"):
        client.responses.create(model=BROKEN, input="Hi")
    *_, last = client.responses.create(model=CUT, input="Hi", stream=True)
    assert last.type == "response.incomplete"
    *_, last = client.responses.create(model=BROKEN, input="Hi", stream=True)
    assert last.type == "error"


def test_a_kept_answer_without_a_word_errs_its_item(client: openai.OpenAI) -> None:
    asked: Any = {"messages": said("Hi"), "store": True, "metadata": {"case": "told"}}
    for model in (FILTERED, CUT, ANSWERS[-1]):
        client.chat.completions.create(model=model, **asked)
    config: Any = {"type": "logs", "metadata": {"case": "told"}}
    made = client.evals.create(name="k", data_source_config=config, testing_criteria=CRITERIA)
    source: Any = {"type": "completions", "source": {"type": "stored_completions"}}
    run = wait_over(client, client.evals.runs.create(made.id, data_source=source))
    items = client.evals.runs.output_items.list(run.id, eval_id=made.id)
    errors = [item.sample.error and item.sample.error.code for item in items]
    assert errors == ["content_filter", "length", None]
