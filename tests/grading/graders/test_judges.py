"""Judges that ask a real model server: what counts as a verdict, and what is errored."""

import asyncio
import json
from typing import Any

import pytest

from apps.clients import AdaptingClient, ChatClient, Lessons, Unlimited
from apps.clients.quirks import formats_among
from apps.clients.retries import RetryPolicy
from apps.errors import dotted
from apps.grading.graders import build_grader
from apps.grading.graders.base import InvalidSetting, Mark
from apps.grading.graders.judging import instructed
from apps.grading.samples import Sample
from tests.model_server import ModelServer

INPUT = [{"role": "user", "content": "Is {{ item.answer }} polite?"}]
LABELS = {"input": INPUT, "labels": ["good", "bad"], "passing_labels": ["good"]}
HASTE = RetryPolicy(answered_tries=2, answered_seconds=0.5, connecting_seconds=0.5)


class Asking:
    """Asks the server and remembers the requests."""

    def __init__(self, server: ModelServer) -> None:
        self.requests: list[dict[str, Any]] = []
        client = ChatClient(server.base_url, None, Unlimited(), allow_private=True, policy=HASTE)
        self.client = AdaptingClient(client, Lessons())

    def refused_formats(self, model: str) -> list[str]:
        return formats_among(self.client.lessons.of(model))

    async def chat(
        self, request: dict[str, Any], *, prompted: bool = False, keeps_format: bool = False
    ) -> dict[str, Any]:
        self.requests.append(request)
        return (await self.client.complete(request, keeps_format=keeps_format)).body

    async def embed(self, model: str, texts: list[str]) -> list[list[float]]:
        raise AssertionError("a judge asks for no embeddings")


def judged(
    server: ModelServer, kind: str, model: str, item: Any = None, **settings: Any
) -> tuple[Mark, Asking]:
    grader = build_grader(kind, {"model": model, "input": INPUT, **settings})
    asking = Asking(server)

    async def work() -> Mark:
        try:
            return await grader.judge(Sample(item or {"answer": "thank you"}, None), asking)
        finally:
            await asking.client.close()

    return asyncio.run(work()), asking


def label(server: ModelServer, reply: str) -> Mark:
    return judged(server, "label_model", f"answer:{reply}", **LABELS)[0]


def score(server: ModelServer, reply: str, **settings: Any) -> Mark:
    return judged(server, "score_model", f"answer:{reply}", **settings)[0]


def test_a_passing_label_is_1_and_passed_and_another_0_and_failed(server: ModelServer) -> None:
    steps = [{"description": "read", "conclusion": "It is kind."}]
    passed = label(server, json.dumps({"steps": steps, "result": "good"}))
    assert (passed.value, passed.passed) == (1.0, True)
    assert passed.evidence == "good: It is kind."
    failed = label(server, '{"steps": [], "result": "bad"}')
    assert (failed.value, failed.passed) == (0.0, False)


def test_the_judge_is_asked_for_an_object_whose_result_is_one_of_the_labels(
    server: ModelServer,
) -> None:
    _, asking = judged(server, "label_model", 'answer:{"result":"bad"}', **LABELS)
    [request] = asking.requests
    schema = request["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["result"]["enum"] == ["good", "bad"]
    assert [*schema["properties"]] == ["steps", "result"]
    assert request["messages"] == [{"role": "user", "content": "Is thank you polite?"}]


@pytest.mark.parametrize(
    "reply",
    [
        "It seems quite good to me.",
        '{"steps": [], "result": "go',
        '{"steps": []}',
        '{"result": "fair"}',
        '["good"]',
        '{"result": null}',
        '{"result": NaN}',
    ],
)
def test_what_is_no_label_of_the_list_is_errored_and_never_a_score(
    reply: str, server: ModelServer
) -> None:
    mark = label(server, reply)
    assert mark.value is None
    assert mark.passed is None
    assert mark.error is not None
    assert mark.error.code == "model_grader_parse_error"


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("empty", "model_grader_parse_error"),
        ("null", "model_grader_parse_error"),
        ("refusal", "model_grader_refusal_error"),
        ("fail-500", "model_grader_server_error"),
        ("garbage", "model_grader_server_error"),
    ],
)
@pytest.mark.parametrize("kind", ["label_model", "score_model"])
def test_a_judge_that_gives_no_verdict_is_errored_with_the_reason(
    kind: str, model: str, code: str, server: ModelServer
) -> None:
    mark, _ = judged(server, kind, model, **LABELS)
    assert mark.value is None
    assert mark.error is not None
    assert mark.error.code == code
    assert mark.error.message


def test_an_unreadable_reply_is_asked_for_once_more_and_a_refusal_is_not(
    server: ModelServer,
) -> None:
    assert len(judged(server, "label_model", "answer:hm", **LABELS)[1].requests) == 2
    assert len(judged(server, "label_model", "refusal", **LABELS)[1].requests) == 1


def test_a_number_is_clamped_to_the_range_and_passes_from_the_threshold_on(
    server: ModelServer,
) -> None:
    settings = {"range": [1, 7], "pass_threshold": 4}
    assert score(server, '{"result": 4}', **settings).passed is True
    assert score(server, '{"result": 3.99}', **settings).passed is False
    high = score(server, '{"result": 12}', **settings)
    assert (high.value, high.passed) == (7.0, True)
    assert "clamped" in high.evidence
    assert high.notes == {"clamped_from": 12}


def test_without_a_threshold_the_middle_of_the_range_is_one(server: ModelServer) -> None:
    assert score(server, '{"result": 0.5}').passed is True
    assert score(server, '{"result": 0.49}').passed is False


@pytest.mark.parametrize(
    "settings", [{"range": [-1, 1]}, {"range": [1, 7]}, {"range": [-5, 5]}, {}]
)
@pytest.mark.parametrize(
    "reply",
    [
        '{"steps": [], "result": "N/A"}',
        '{"steps": [], "result": null}',
        '{"steps": []}',
        '{"result": true}',
        '{"result": [1]}',
        "Score: 0.9",
        "9/10",
    ],
)
def test_a_result_that_is_no_number_is_errored_whatever_the_range(
    server: ModelServer, reply: str, settings: Any
) -> None:
    mark = score(server, reply, **settings)
    assert (mark.value, mark.passed) == (None, None)
    assert mark.error is not None
    assert mark.error.code == "model_grader_parse_error"
    assert reply in mark.error.message


def test_a_number_in_quotes_is_that_number_and_one_alone_is_one(server: ModelServer) -> None:
    for reply in ('{"steps": [], "result": "0.8"}', "0.8", "**0.8**", '"0.8"'):
        mark = score(server, reply)
        assert (mark.value, mark.passed, mark.error, mark.notes) == (0.8, True, None, None), reply


def test_prose_from_a_judge_of_numbers_is_errored(server: ModelServer) -> None:
    mark = score(server, "I would say 4 out of 5.")
    assert mark.value is None
    assert mark.error is not None


def test_a_server_without_structured_outputs_is_asked_in_ever_plainer_ways(
    server: ModelServer,
) -> None:
    mark, asking = judged(server, "label_model", "unstructured:answer:good", **LABELS)
    assert mark.passed is True
    formats = [request.get("response_format", {}).get("type") for request in asking.requests]
    assert formats == ["json_schema", "json_object", None]
    assert asking.refused_formats("unstructured:answer:good") == ["json_schema", "json_object"]
    [message] = asking.requests[-1]["messages"]
    assert message["content"].startswith("Is thank you polite?\n\n")
    assert '"good", "bad"' in message["content"]


def test_after_an_unreadable_reply_the_judge_is_asked_in_the_next_way(server: ModelServer) -> None:
    replies = {
        # It knows no structured output and answers in prose, unless it is told how to answer.
        'told:JSON Schema:answer:{"result": "good"}': ["json_schema", "json_object"],
        # Likewise, and the JSON mode is refused.
        "flaky:1:answer:Gladly!": ["json_schema", "json_object"],
    }
    for model, formats in replies.items():
        item = {"answer": '{"result": "good"}'}
        settings = {**LABELS, "input": [{"role": "user", "content": "{{ item.answer }}"}]}
        mark, asking = judged(server, "label_model", model, item, **settings)
        assert mark.passed is True, model
        asked = [request.get("response_format", {}).get("type") for request in asking.requests]
        assert asked == formats, model
        # What one row's reply was like says nothing of the next row's.
        assert asking.refused_formats(model) == []


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([{"role": "user", "content": "a"}], 0),
        ([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], 0),
        ([{"role": "developer", "content": "a"}, {"role": "user", "content": "b"}], 0),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], 0),
        ([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}], 0),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], 1),
        ([{"role": "assistant", "content": "a"}], 1),
    ],
)
def test_the_instruction_stands_in_the_first_system_message_or_the_last_users(
    messages: Any, told: int
) -> None:
    made = instructed(messages, "Do so.")
    assert len(made) == max(len(messages), told + 1)
    assert made[told]["content"].endswith("Do so.")
    assert [one for one in made if one not in messages] == [made[told]]


def test_an_instruction_joins_the_parts_of_a_message() -> None:
    parts = [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "x"}}]
    [made] = instructed([{"role": "user", "content": parts}], "Do so.")
    assert made["content"] == [*parts, {"type": "text", "text": "Do so."}]


def test_a_server_that_wants_the_system_first_is_asked_in_any_way(server: ModelServer) -> None:
    model = 'system-first:told:JSON Schema:answer:{"result": "good"}'
    for first in ("system", "user"):
        messages = [{"role": first, "content": "Be strict."}, *INPUT]
        mark, _ = judged(server, "label_model", model, **{**LABELS, "input": messages})
        assert mark.passed is True, first


def test_a_server_that_refuses_whatever_it_is_asked_is_asked_in_one_way(
    server: ModelServer,
) -> None:
    mark, asking = judged(server, "label_model", "status-400", **LABELS)
    assert mark.error is not None
    assert len(asking.requests) == 1
    assert asking.refused_formats("status-400") == []


def test_a_json_reply_in_a_code_block_is_read(server: ModelServer) -> None:
    assert label(server, '```json\n{"result": "good"}\n```').passed is True


def test_a_variable_that_the_row_lacks_is_errored_without_asking(server: ModelServer) -> None:
    mark, asking = judged(server, "score_model", "answer:1", item={"other": 1})
    assert mark.error is not None
    assert mark.error.code == "invalid_variable_error"
    assert asking.requests == []


@pytest.mark.parametrize(
    ("kind", "changes", "field"),
    [
        ("label_model", {"passing_labels": ["fine"]}, "passing_labels[0]"),
        ("label_model", {"passing_labels": []}, "passing_labels"),
        ("label_model", {"labels": ["good", 1]}, "labels[1]"),
        ("label_model", {"model": ""}, "model"),
        ("label_model", {"input": "x"}, "input"),
        ("label_model", {"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ("score_model", {"range": [2, 1]}, "range"),
        ("score_model", {"range": [1, True]}, "range"),
        ("score_model", {"pass_threshold": "high"}, "pass_threshold"),
        ("score_model", {"sampling_params": 3}, "sampling_params"),
    ],
)
def test_impossible_settings_are_refused_by_their_place(
    kind: str, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidSetting) as refused:
        build_grader(kind, {"model": "m", **LABELS, **changes})
    assert dotted(refused.value.path) == field
