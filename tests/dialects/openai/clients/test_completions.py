"""Answers that the real client had us keep, and runs over them, on a live server."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.dialects.openai.clients.waiting import wait_over
from tests.patience import wait_until
from tests.shared_server import Platform

CRITERION = {
    "type": "string_check",
    "name": "polite",
    "input": "{{ sample.output_text }}",
    "reference": "please",
    "operation": "like",
}


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=platform.openai_url, api_key=platform.key, max_retries=0) as client:
        yield client


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


def finished(client: openai.OpenAI, eval_id: str, data_source: Any) -> Any:
    run = client.evals.runs.create(eval_id, data_source=data_source)
    run = wait_over(client, run)
    assert run.status == "completed", run
    return run


def counts(run: Any) -> tuple[int, int, int]:
    return run.result_counts.total, run.result_counts.passed, run.result_counts.failed


def test_a_completion_is_kept_found_changed_and_deleted(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(
        model="echo-model", messages=said("Help me"), store=True, metadata={"case": "kept"}
    )
    assert made.choices[0].message.content == "Help me"
    assert made.usage is not None
    assert client.chat.completions.retrieve(made.id).id == made.id
    found = client.chat.completions.list(metadata={"case": "kept"}, model="echo-model")
    assert [one.id for one in found] == [made.id]
    [message] = client.chat.completions.messages.list(made.id)
    assert (message.role, message.content) == ("user", "Help me")
    changed = client.chat.completions.update(made.id, metadata={"case": "changed"})
    assert changed.metadata == {"case": "changed"}
    assert client.chat.completions.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(made.id)


def test_a_stream_comes_word_by_word_and_is_kept(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="echo-model", messages=said("one two three"), store=True, stream=True
    )
    chunks = list(stream)
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(word or "" for word in words) == "one two three"
    kept = client.chat.completions.retrieve(chunks[0].id)
    assert kept.choices[0].message.content == "one two three"


def test_a_caller_who_goes_away_does_not_keep_a_model_busy(
    platform: Platform, client: openai.OpenAI
) -> None:
    impatient = client.with_options(timeout=1)
    for stream in (False, True):
        with pytest.raises(openai.APITimeoutError):
            impatient.chat.completions.create(model="slow:30", messages=said("wait"), stream=stream)
    # Others are answered meanwhile.
    answer = client.chat.completions.create(model="echo-model", messages=said("hi"))
    assert answer.choices[0].message.content == "hi"


def test_an_unknown_model_and_a_wrong_key_are_told_apart(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nobody", messages=said("hi"))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="x").chat.completions.create(
            model="echo-model", messages=said("hi")
        )


def test_a_response_is_kept_gone_on_from_and_streamed(client: openai.OpenAI) -> None:
    made = client.responses.create(model="echo-model", input="one", instructions="Repeat.")
    assert made.output_text == "one"
    assert client.responses.retrieve(made.id).output_text == "one"
    again = client.responses.create(model="echo-model", input="two", previous_response_id=made.id)
    assert again.output_text == "two"
    with client.responses.stream(model="echo-model", input="three four") as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert "response.output_text.delta" in kinds
    assert final.output_text == "three four"
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


@pytest.mark.parametrize("kind", ["logs", "stored_completions"])
def test_what_was_kept_is_evaluated_as_it_is_and_asked_anew(
    kind: str, client: openai.OpenAI
) -> None:
    for text in ("Help, please", "Help", "More, please"):
        client.chat.completions.create(
            model="echo-model", messages=said(text), store=True, metadata={"use": kind}
        )
    config: Any = {"type": kind, "metadata": {"use": kind}}
    criteria: Any = [CRITERION]
    made = client.evals.create(name=kind, data_source_config=config, testing_criteria=criteria)
    source: Any = {"type": "stored_completions", "metadata": {"use": kind}, "model": "echo-model"}
    run = finished(client, made.id, {"type": "completions", "source": source})
    assert counts(run) == (3, 2, 1)
    anew = {
        "type": "completions",
        "source": source,
        "model": "echo-model",
        "input_messages": {"type": "item_reference", "item_reference": "item.input"},
    }
    run = finished(client, made.id, anew)
    assert counts(run) == (3, 2, 1)
    assert run.per_model_usage[0].invocation_count == 3


def test_responses_are_evaluated_as_they_are_and_asked_anew(client: openai.OpenAI) -> None:
    for text in ("Help, please", "Help"):
        client.responses.create(model="echo-model", input=text, metadata={"use": "responses"})
    config: Any = {"type": "logs", "metadata": {"use": "responses"}}
    criteria: Any = [CRITERION]
    made = client.evals.create(name="r", data_source_config=config, testing_criteria=criteria)
    source = {"type": "responses", "source": {"type": "responses", "limit": 50}}
    assert counts(finished(client, made.id, source)) == (2, 1, 1)
    message = {
        "role": "user",
        "type": "message",
        "content": {"type": "input_text", "text": "please {{ item.input }}"},
    }
    anew = {
        **source,
        "model": "echo-model",
        "input_messages": {"type": "template", "template": [message]},
        "sampling_params": {"text": {"format": {"type": "text"}}, "temperature": 0.2},
    }
    run = finished(client, made.id, anew)
    assert counts(run) == (2, 2, 0)
    assert run.data_source.type == "responses"


def test_the_places_of_the_server_come_back(platform: Platform, client: openai.OpenAI) -> None:
    """More streams than there are places, each left after its first chunk."""
    for _ in range(40):
        with client.chat.completions.create(
            model="echo-model", messages=said("a b c d"), stream=True
        ) as stream:
            next(iter(stream))
    answer = client.chat.completions.create(model="echo-model", messages=said("still there"))
    assert answer.choices[0].message.content == "still there"
    wait_until(lambda: platform.models.counts()["in_flight"] <= 2, 10)
