"""prompt_judge by a real model server: what it is asked, and which replies are a score."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.clients import AdaptingClient, ChatClient, Lessons, Preset, Unlimited
from apps.clients.retries import RetryPolicy
from apps.errors import dotted
from apps.evaluations.engine.grading import Asker
from apps.grading.graders import build_grader
from apps.grading.graders.base import InvalidSetting, JudgeGrader, Mark
from apps.grading.samples import Sample
from apps.inference.attached_models import Judge
from tests.model_server import ModelServer, running

WORKED = json.loads(Path(__file__).with_name("worked_verdicts.json").read_text())
HASTE = RetryPolicy(answered_tries=1, answered_seconds=0.5, connecting_seconds=0.5)
TEMPLATE = "Rate {{ actual }} by {{ ideal }} for {{ input }}."
ROW = {"input": "2+3", "ideal": "5"}
NO_USER = {"role": "user", "content": ""}


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with running(answer='{"score": 1}') as server:
        yield server


def judged(
    server: ModelServer,
    upstream: str,
    item: dict[str, Any] | None = None,
    answer: Any = "five",
    preset: Preset | None = None,
    **settings: Any,
) -> tuple[Mark, Asker]:
    server.reset()
    grader = build_grader("prompt_judge", {"model": "referee", **settings})
    assert isinstance(grader, JudgeGrader)
    plain = ChatClient(server.base_url, None, Unlimited(), allow_private=True, policy=HASTE)
    client = AdaptingClient(plain, Lessons())
    judge = Judge(client, "referee", upstream, preset or Preset())
    asker = Asker({"referee": judge})
    sample = Sample(ROW if item is None else item, {"output_text": answer, "choices": answer})

    async def work() -> Mark:
        try:
            return await grader.judge(sample, asker)
        finally:
            await client.close()

    return asyncio.run(work()), asker


def sent(asker: Asker) -> list[dict[str, Any]]:
    assert asker.exchange is not None
    messages: list[dict[str, Any]] = asker.exchange["input"]
    return messages


@pytest.mark.parametrize("row", WORKED)
def test_every_example_of_the_contract_is_read_as_it_says(
    server: ModelServer, row: dict[str, Any]
) -> None:
    mark, asker = judged(server, f"answer:{row['reply']}")
    assert mark.value == row["score"]
    if row["score"] is None:
        assert mark.error is not None
        assert mark.error.code == "model_grader_parse_error"
        assert row["reply"] in mark.error.message
        assert len(asker.spent) == 2
    else:
        assert mark.passed is None
        assert mark.evidence == row["reply"].rpartition("</think>")[2].strip()
        assert len(asker.spent) == 1


def test_a_template_is_filled_in_and_the_user_says_nothing(server: ModelServer) -> None:
    params = {"temperature": 0, "response_format": {"type": "json_object"}}
    mark, asker = judged(server, "near", prompt=TEMPLATE, is_template=True, params=params)
    assert mark.value == 1
    assert sent(asker) == [{"role": "system", "content": "Rate five by 5 for 2+3."}, NO_USER]
    assert asker.exchange is not None
    assert asker.exchange["params"] == params
    assert json.loads(asker.exchange["choices"][0]["message"]["content"]) == {"score": 1}
    [spent] = asker.spent
    assert (spent.model, spent.calls, spent.usage.prompt_tokens) == ("referee", 1, 6)


def test_a_prompt_that_is_no_template_is_sent_as_it_is(server: ModelServer) -> None:
    _, asker = judged(server, "near", item={}, prompt=TEMPLATE)
    assert sent(asker) == [{"role": "system", "content": TEMPLATE}, NO_USER]


def test_without_a_prompt_there_is_no_system_message(server: ModelServer) -> None:
    for settings in ({}, {"prompt": "{{ unknown }}", "is_template": True}):
        _, asker = judged(server, "near", **settings)
        assert sent(asker) == [NO_USER]


def test_the_model_brings_its_own_prompt_only_where_the_criterion_has_none(
    server: ModelServer,
) -> None:
    preset = Preset("Be strict.", {"temperature": 0.5, "seed": 1})
    _, asker = judged(server, "near", preset=preset)
    assert sent(asker) == [{"role": "system", "content": "Be strict."}, NO_USER]
    _, asker = judged(server, "near", preset=preset, prompt="Be kind.", params={"seed": 2})
    assert sent(asker) == [{"role": "system", "content": "Be kind."}, NO_USER]
    assert asker.exchange is not None
    assert asker.exchange["params"] == {"temperature": 0.5, "seed": 2}


def test_only_what_the_prompt_reads_must_be_in_the_row(server: ModelServer) -> None:
    mark, _ = judged(server, "near", item={}, prompt="{{ actual }}", is_template=True)
    assert mark.value == 1
    mark, asker = judged(server, "near", item={}, prompt="{{ ideal }}", is_template=True)
    assert mark.error is not None
    assert mark.error.code == "invalid_variable_error"
    assert asker.spent == []


def test_messages_and_choices_can_be_gone_through(server: ModelServer) -> None:
    item = {
        "input": json.dumps([{"role": "user", "content": "hi"}, {"role": "tool", "content": "x"}]),
        "ideal": [{"index": 0, "message": {"role": "assistant", "content": "ho"}}],
    }
    reply = [{"index": 0, "message": {"role": "assistant", "content": "hu"}}]
    prompt = (
        "{% for message in input %}{{ message.role }}: {{ message.content }}; {% endfor %}"
        "{{ actual[0].message.content }} {{ ideal[0].message.content }}"
    )
    settings = {"is_template": True, "choices": True, "actual": "{{ sample.choices }}"}
    _, asker = judged(server, "near", item, reply, prompt=prompt, **settings)
    assert sent(asker)[0]["content"] == "user: hi; tool: x; hu ho"
    _, asker = judged(server, "near", item, reply, prompt="{{ actual }}", **settings)
    assert json.loads(sent(asker)[0]["content"]) == reply
    # A row of plain texts, with the same settings.
    _, asker = judged(server, "near", {"ideal": None}, "a", prompt="[{{ ideal }}]", **settings)
    assert sent(asker)[0]["content"] == "[]"


def test_a_reply_without_a_score_is_asked_for_once_more(server: ModelServer) -> None:
    mark, asker = judged(server, "flaky:1:answer:prose", pass_threshold=1)
    assert (mark.value, mark.passed, len(asker.spent)) == (1.0, True, 2)


@pytest.mark.parametrize("upstream", ["fail-400", "fail-500", "garbage", "no-choices"])
def test_a_judge_that_fails_is_not_asked_again(server: ModelServer, upstream: str) -> None:
    mark, asker = judged(server, upstream)
    assert mark.error is not None
    assert mark.error.code == "model_grader_server_error"
    assert len(asker.spent) == 1
    assert server.counts()["total"] == 1


@pytest.mark.parametrize(
    ("upstream", "code"),
    [
        ("empty", "model_grader_parse_error"),
        ("null", "model_grader_parse_error"),
        ("refusal", "model_grader_refusal_error"),
        ('choice:{"finish_reason": "length", "message": {"content": null}}', "length"),
        (
            'choice:{"finish_reason": "content_filter", "message": {"content": ""}}',
            "content_filter",
        ),
    ],
)
def test_a_reply_without_a_text_is_no_score(server: ModelServer, upstream: str, code: str) -> None:
    mark, asker = judged(server, upstream)
    assert mark.error is not None
    assert mark.error.code == code
    assert len(asker.spent) == 2


def test_a_prompt_that_takes_too_much_work_errs_the_row_and_asks_nobody(
    server: ModelServer,
) -> None:
    prompt = "{% for a in actual %}{% for b in actual %}{% endfor %}{% endfor %}"
    mark, asker = judged(server, "near", answer="x" * 10_000, prompt=prompt, is_template=True)
    assert mark.error is not None
    assert (mark.error.code, asker.spent) == ("invalid_prompt", [])


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "{{ a", "is_template": True}, "prompt"),
        ({"prompt": "{{ range(9) }}", "is_template": True}, "prompt"),
        ({"is_template": "yes"}, "is_template"),
        ({"params": []}, "params"),
        ({"params": {"model": "other"}}, "params.model"),
        ({"params": {"messages": []}}, "params.messages"),
        ({"params": {"stream": True}}, "params.stream"),
        ({"choices": 1}, "choices"),
        ({"pass_threshold": "1"}, "pass_threshold"),
    ],
)
def test_a_setting_that_cannot_be_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        build_grader("prompt_judge", {"model": "m", **settings})
    assert dotted(refused.value.path) == field


def test_braces_of_a_prompt_that_is_no_template_are_not_looked_at() -> None:
    grader = build_grader("prompt_judge", {"model": "m", "prompt": "{{ a"})
    assert grader.templates() == ()


def test_its_templates_are_those_that_the_prompt_reads() -> None:
    settings = {"model": "m", "prompt": "{{ ideal }} {{ input }}", "is_template": True}
    assert build_grader("prompt_judge", settings).templates() == (
        "{{ item.input }}",
        "{{ item.ideal }}",
    )
