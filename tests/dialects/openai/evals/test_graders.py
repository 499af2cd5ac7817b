"""The grader endpoints: check a grader, try it on one sample."""

from typing import Any

import pytest

from apps.inference.endpoints import add_endpoint
from tests.dialects.openai.caller import Caller
from tests.model_server import ModelServer

RUN = "/fine_tuning/alpha/graders/run"
VALIDATE = "/fine_tuning/alpha/graders/validate"
SAME = {
    "type": "string_check",
    "name": "same",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.label }}",
    "operation": "eq",
}
CLOSE = {
    "type": "text_similarity",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.label }}",
    "evaluation_metric": "fuzzy_match",
}
# What judges say that is no score -> the flags. contract: openai section 13.5: here it counts as 0
UNREAD = {"model_grader_parse_error"}
NO_SCORE = {
    "answer:hm": UNREAD,
    'answer:{"result": "N/A"}': UNREAD,
    'answer:{"result": null}': UNREAD,
    'choice:{"finish_reason": "length", "message": {"content": "I"}}': {
        "model_grader_exceeded_max_tokens_error"
    },
    'choice:{"finish_reason": "content_filter", "message": {"content": ""}}': {
        "model_grader_refusal_error"
    },
}


@pytest.fixture
def caller(server: ModelServer) -> Caller:
    caller = Caller()
    models = ['answer:{"result": 0.75}', "refusal", "status-401", *NO_SCORE]
    add_endpoint(caller.actor, base_url=server.base_url, models=models, allow_private=True)
    return caller


def run(caller: Caller, grader: Any, sample: str = "billing", **fields: Any) -> dict[str, Any]:
    body = {"grader": grader, "model_sample": sample, "item": {"label": "billing"}, **fields}
    status, answer = caller.post(RUN, body)
    assert status == 200, answer
    return answer


def judge(model: str) -> dict[str, Any]:
    message = {"role": "user", "content": "{{ sample.output_text }}"}
    return {"type": "score_model", "name": "judge", "model": model, "input": [message]}


def raised(answer: dict[str, Any]) -> set[str]:
    return {name for name, value in answer["metadata"]["errors"].items() if value}


@pytest.mark.django_db(transaction=True)
def test_a_grader_is_tried_on_one_sample(caller: Caller) -> None:
    answer = run(caller, SAME)
    assert answer["reward"] == 1.0
    assert answer["metadata"]["name"] == "same"
    assert answer["metadata"]["type"] == "string_check"
    assert answer["metadata"]["token_usage"] is None
    assert answer["sub_rewards"] == {}
    assert raised(answer) == set()
    assert run(caller, SAME, sample="other")["reward"] == 0.0


@pytest.mark.django_db(transaction=True)
def test_a_sample_that_is_json_can_be_read_into(caller: Caller) -> None:
    grader = {**SAME, "input": "{{ sample.output_json.answer }}"}
    assert run(caller, grader, sample='{"answer": "billing"}')["reward"] == 1.0
    # contract: openai, additions to section 10: below null is the empty text
    answer = run(caller, grader, sample="no json")
    assert (answer["reward"], raised(answer)) == (0.0, set())
    assert raised(run(caller, grader, sample='{"other": 1}')) == {"invalid_variable_error"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("as_array", [False, True])
def test_a_multi_grader_joins_its_parts_by_the_formula(caller: Caller, as_array: bool) -> None:
    parts: Any = {"exact": SAME, "close": CLOSE}
    if as_array:
        parts = [{**grader, "name": name} for name, grader in parts.items()]
    multi = {"type": "multi", "graders": parts, "calculate_output": "0.5 * exact + close / 2"}
    answer = run(caller, multi, sample="billin")
    assert answer["sub_rewards"]["exact"] == 0.0
    assert answer["reward"] == pytest.approx(answer["sub_rewards"]["close"] / 2)
    assert answer["metadata"]["scores"] == answer["sub_rewards"]


@pytest.mark.django_db(transaction=True)
def test_a_formula_without_a_value_raises_its_flag(caller: Caller) -> None:
    multi = {"type": "multi", "graders": {"exact": SAME}, "calculate_output": "1 / exact"}
    answer = run(caller, multi, sample="other")
    assert answer["reward"] == 0
    assert raised(answer) == {"formula_parse_error"}


@pytest.mark.django_db(transaction=True)
def test_a_judge_is_asked_and_its_tokens_are_told(caller: Caller) -> None:
    model = 'answer:{"result": 0.75}'
    answer = run(caller, judge(model))
    assert answer["reward"] == 0.75
    assert answer["metadata"]["sampled_model_name"] == model
    usage = answer["model_grader_token_usage_per_model"][model]
    assert usage["total_tokens"] > 0
    assert answer["metadata"]["token_usage"] == usage


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("refusal", {"model_grader_refusal_error"}),
        *NO_SCORE.items(),
        ("status-401", {"model_grader_server_error", "model_grader_server_error_details"}),
    ],
)
def test_a_judge_without_a_verdict_raises_its_flag(
    caller: Caller, model: str, flags: set[str]
) -> None:
    answer = run(caller, judge(model))
    assert answer["reward"] == 0
    assert raised(answer) == flags


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("grader", "param"),
    [
        ({**SAME, "type": "endpoint"}, "grader.type"),
        ({**SAME, "operation": "neq"}, "grader.operation"),
        ({**CLOSE, "evaluation_metric": "cosine"}, "grader.model"),
        (judge("nobody"), "grader.model"),
        ({"type": "multi", "calculate_output": "1"}, "grader.graders"),
        ({"type": "multi", "graders": SAME, "calculate_output": "1"}, "grader.graders"),
        (
            {"type": "multi", "graders": {"a": {**SAME, "operation": 1}}, "calculate_output": "a"},
            "grader.graders.a.operation",
        ),
        (5, "grader"),
    ],
)
def test_a_grader_that_cannot_be_built_is_refused_by_its_place(
    caller: Caller, grader: Any, param: str
) -> None:
    for path in (RUN, VALIDATE):
        status, answer = caller.post(path, {"grader": grader, "model_sample": "x"})
        assert (status, answer["error"]["param"]) == (400, param), answer


@pytest.mark.django_db(transaction=True)
def test_validate_gives_the_grader_back_with_a_name(caller: Caller) -> None:
    status, answer = caller.post(VALIDATE, {"grader": CLOSE})
    assert status == 200
    assert answer["grader"] == {**CLOSE, "name": "grader"}
