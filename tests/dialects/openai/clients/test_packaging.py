"""Answers that were paid for are not thrown away over their packaging, and it is said."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.dialects.openai.clients.waiting import wait_over
from tests.packed_answers import ODD
from tests.shared_server import Platform

# How it is packed; what of the text cannot stay; what is said of it.
PACKED = {
    "gzip": (ODD, ""),
    "x-gzip": (ODD, ""),
    "deflate": (ODD, ""),
    "said-gzip": (ODD, ""),
    "silent-gzip": (ODD, "gzip"),
    "mark": (ODD, "a byte order mark"),
    "utf-16": (ODD, "a byte order mark"),
    "nul": ("\ufffd", "1 NUL characters"),
    "bare-nul": ("\ufffd", "1 NUL characters"),
    "surrogate": ("\ufffd", "1 lone surrogates"),
    "bare-newline": ("\n", ""),
    "latin-1": ("\ufffd", "1 bytes that are no UTF-8"),
    "logprobs": (ODD, "2 numbers that JSON has no word for"),
    "stream": (ODD, "a stream"),
}
JUDGED = '{"steps": [], "result": "good", "note": "%s"}'


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[openai.OpenAI]:
    key = platform.open_account("packaging", *(f"packed:{how}" for how in PACKED), "packed:brotli")
    with openai.OpenAI(base_url=platform.openai_url, api_key=key, max_retries=0) as client:
        yield client


def evaluated(
    client: openai.OpenAI, model: str, judge: str, odd: str = ODD
) -> tuple[Any, list[Any]]:
    """Ask the model for three answers, one of them odd, and have a judge look at each."""
    criteria: Any = [
        {
            "type": "string_check",
            "name": "kept",
            "input": "{{ sample.output_text }}",
            "reference": "{{ item.text }}",
            "operation": "eq",
        },
        {
            "type": "label_model",
            "name": "judged",
            "model": judge,
            "input": [{"role": "user", "content": JUDGED % odd}],
            "labels": ["good", "bad"],
            "passing_labels": ["good"],
        },
    ]
    config: Any = {
        "type": "custom",
        "item_schema": {"type": "object", "properties": {"text": {"type": "string"}}},
        "include_sample_schema": True,
    }
    made = client.evals.create(data_source_config=config, testing_criteria=criteria)
    rows = [{"item": {"text": text}} for text in ("plain", f"odd {ODD}", "more")]
    source: Any = {
        "type": "completions",
        "model": model,
        "source": {"type": "file_content", "content": rows},
        "input_messages": {
            "type": "template",
            "template": [{"role": "user", "content": "{{ item.text }}"}],
        },
    }
    run = wait_over(client, client.evals.runs.create(made.id, data_source=source))
    items = list(client.evals.runs.output_items.list(run.id, eval_id=made.id, order="asc"))
    return run, sorted(items, key=lambda one: one.datasource_item_id)


@pytest.mark.parametrize("how", PACKED)
def test_an_answer_and_a_verdict_are_kept_however_they_are_packed(
    how: str, client: openai.OpenAI, platform: Platform
) -> None:
    text, said = PACKED[how]
    before = platform.models.counts()["models"].get(f"packed:{how}", 0)
    # A judge's verdict is JSON itself, in which a newline stands in no string.
    odd_verdict = "" if how == "bare-newline" else ODD
    run, items = evaluated(client, f"packed:{how}", f"packed:{how}", odd_verdict)
    assert run.status == "completed"
    assert run.result_counts.errored == 0, items
    assert [item.sample.output[0].content for item in items] == ["plain", f"odd {text}", "more"]
    assert all(item.results[1].passed for item in items)
    odd = items[1].to_dict()
    for sample in (odd["sample"], odd["results"][1]["sample"]):
        assert said in sample.get("warning", "")
        assert bool(said) == ("warning" in sample)
    # Each answer and each verdict was bought once.
    assert platform.models.counts()["models"][f"packed:{how}"] - before == 6
    assert sum(usage.invocation_count for usage in run.per_model_usage) == 6


def test_logprobs_that_are_no_numbers_are_kept_as_what_clients_know(client: openai.OpenAI) -> None:
    _, items = evaluated(client, "packed:logprobs", "packed:mark")
    stored = items[0].to_dict()
    assert "logprobs" not in stored["sample"]
    said: Any = [{"role": "user", "content": "yes"}]
    made = client.chat.completions.create(model="packed:logprobs", messages=said, store=True)
    assert made.choices[0].logprobs is not None
    [token] = made.choices[0].logprobs.content or []
    assert token.logprob is None
    assert token.top_logprobs[0].logprob == -9999.0
    assert "2 numbers" in made.to_dict()["warning"]  # type: ignore[operator]  # the types lack it
    assert client.chat.completions.retrieve(made.id).choices[0].message.content == "yes"


def test_what_cannot_be_unpacked_is_not_bought_again(
    client: openai.OpenAI, platform: Platform
) -> None:
    before = platform.models.counts()["models"].get("packed:brotli", 0)
    run, items = evaluated(client, "packed:brotli", "packed:mark")
    assert run.result_counts.errored == 3
    assert "packed in br" in items[0].sample.error.message
    assert platform.models.counts()["models"]["packed:brotli"] - before == 3


@pytest.mark.parametrize("how", ["nul", "surrogate", "gzip", "mark", "stream", "said-gzip"])
def test_a_live_answer_is_read_and_kept_too(how: str, client: openai.OpenAI) -> None:
    text, _ = PACKED[how]
    said: Any = [{"role": "user", "content": f"odd {ODD}"}]
    made = client.chat.completions.create(model=f"packed:{how}", messages=said, store=True)
    assert made.choices[0].message.content == f"odd {text}"
    stream = client.chat.completions.create(model=f"packed:{how}", messages=said, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(pieces) == f"odd {text}"
    assert client.chat.completions.retrieve(made.id).choices[0].message.content == f"odd {text}"
