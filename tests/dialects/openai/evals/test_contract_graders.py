"""Sections 13 and 14 of docs/contracts/openai.md: the grader endpoints, row by row."""

from dataclasses import replace
from typing import Any

import pytest
from openai.types.fine_tuning.alpha import GraderRunResponse

from apps.sandbox import choose, find_runner
from tests.dialects.openai.caller import STRING_CHECK, TEXT_SIMILARITY, Caller
from tests.factories import make_endpoint
from tests.model_server import ModelServer

pytestmark = pytest.mark.django_db(transaction=True)
needs_sandbox = pytest.mark.skipif(find_runner() is None, reason="no sandbox on this machine")

RUN, VALIDATE = "/fine_tuning/alpha/graders/run", "/fine_tuning/alpha/graders/validate"
FLAGS = {
    "formula_parse_error": False,
    "sample_parse_error": False,
    "truncated_observation_error": False,
    "unresponsive_reward_error": False,
    "invalid_variable_error": False,
    "other_error": False,
    "python_grader_server_error": False,
    "python_grader_server_error_type": None,
    "python_grader_runtime_error": False,
    "python_grader_runtime_error_details": None,
    "model_grader_server_error": False,
    "model_grader_server_error_details": None,
    "model_grader_refusal_error": False,
    "model_grader_parse_error": False,
    "model_grader_exceeded_max_tokens_error": False,
}
SCORE, LABEL = 'answer:{"result": 0.75}', 'answer:{"result": "good"}'
MESSAGE = {"role": "user", "content": {"type": "input_text", "text": "{{ sample.output_text }}"}}
JUDGED = {"input": [MESSAGE], "sampling_params": {"seed": 1, "max_completions_tokens": 9}}
GOOD = {"labels": ["good", "bad"], "passing_labels": ["good"]}
CLOSE = {name: value for name, value in TEXT_SIMILARITY.items() if name != "pass_threshold"}
GRADERS: dict[str, dict[str, Any]] = {
    "string_check": STRING_CHECK,
    "text_similarity": CLOSE,
    "label_model": {"type": "label_model", "name": "l", "model": LABEL, **JUDGED, **GOOD},
    "score_model": {"type": "score_model", "name": "s", "model": SCORE, **JUDGED, "range": [0, 1]},
    "multi": {
        "type": "multi",
        "name": "m",
        "graders": {"a": STRING_CHECK, "b": CLOSE},
        "calculate_output": "a + b",
    },
}
PYTHON = {"type": "python", "name": "p", "image_tag": "2025-05-08", "source": "x = 1"}


@pytest.fixture
def caller(server: ModelServer) -> Caller:
    caller = Caller()
    make_endpoint(caller.actor, server.base_url, models=[SCORE, LABEL])
    return caller


def tried(caller: Caller, grader: dict[str, Any], sample: str = "ab") -> dict[str, Any]:
    body = {"grader": grader, "model_sample": sample, "item": {"answer": "ab", "label": "ab"}}
    status, answer = caller.post(RUN, body)
    assert status == 200, answer
    return answer


def as_given_back(grader: dict[str, Any]) -> dict[str, Any]:
    if not grader["type"].endswith("_model"):
        return grader
    return {**grader, "input": [{**message, "type": "message"} for message in grader["input"]]}


def test_every_type_is_checked_and_comes_back_with_its_messages_in_form(caller: Caller) -> None:
    for kind, grader in GRADERS.items():
        for name, named in (
            (grader["name"], grader),
            ("grader", {key: value for key, value in grader.items() if key != "name"}),
            ("grader", {**grader, "name": None}),
        ):
            expected = {"grader": {**as_given_back(grader), "name": name}}
            assert caller.post(VALIDATE, {"grader": named}) == (200, expected), kind
    judges = {"s": GRADERS["score_model"], "l": GRADERS["label_model"]}
    shown = {name: as_given_back(one) for name, one in judges.items()}
    for parts, parts_shown in ((judges, shown), ([*judges.values()], [*shown.values()])):
        multi = {**GRADERS["multi"], "graders": parts, "calculate_output": "s + l"}
        status, answer = caller.post(VALIDATE, {"grader": multi})
        assert (status, answer["grader"]) == (200, {**multi, "graders": parts_shown})
        answer = tried(caller, multi)
        assert (answer["reward"], answer["metadata"]["token_usage"]["total_tokens"]) == (1.75, 6)
        assert answer["model_grader_token_usage_per_model"].keys() == {SCORE, LABEL}


def test_what_is_tried_is_told_in_these_fields(caller: Caller) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cached_tokens": 0}
    expected: dict[str, tuple[float, dict[str, float], str | None]] = {
        "string_check": (1.0, {}, None),
        "text_similarity": (1.0, {}, None),
        "label_model": (1.0, {}, LABEL),
        "score_model": (0.75, {}, SCORE),
        "multi": (2.0, {"a": 1.0, "b": 1.0}, None),
    }
    for kind, (reward, scores, model) in expected.items():
        answer = tried(caller, GRADERS[kind])
        seconds = answer["metadata"].pop("execution_time")
        assert isinstance(seconds, float)
        assert 0 < seconds < 60
        assert answer == {
            "reward": reward,
            "metadata": {
                "name": GRADERS[kind]["name"],
                "type": kind,
                "errors": FLAGS,
                "scores": scores,
                "token_usage": usage if model else None,
                "sampled_model_name": model,
            },
            "sub_rewards": scores,
            "model_grader_token_usage_per_model": {model: usage} if model else {},
        }, kind
        # What the vendor's client reads, but for the usage, which its type has as an integer.
        answer["metadata"] |= {"execution_time": seconds, "token_usage": None}
        GraderRunResponse.model_validate(answer)


@pytest.mark.parametrize("formula", ["a +", "a b", "unknown", "a ^", "median(a, a)", "1 / 0", "()"])
def test_a_formula_that_is_none_is_refused_when_it_is_checked_and_flagged_when_it_is_tried(
    caller: Caller, formula: str
) -> None:
    multi = {**GRADERS["multi"], "calculate_output": formula}
    if formula != "1 / 0":  # which can be read, but has no value
        status, answer = caller.post(VALIDATE, {"grader": multi})
        assert (status, answer["error"]["param"]) == (400, "grader.calculate_output"), answer
    answer = tried(caller, multi)
    flags = answer["metadata"]["errors"]
    assert (answer["reward"], flags) == (0, {**FLAGS, "formula_parse_error": True})


@needs_sandbox
def test_code_that_has_no_end_or_no_grade_raises_its_flag_and_says_why(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = "def grade(sample, item):\n    while True: pass"
    # GRADER_SECONDS, which is read when the process starts.
    monkeypatch.setattr(choose._choice, "limits", replace(choose._choice.limits, seconds=1))
    answer = tried(caller, {**PYTHON, "source": endless})
    flags = answer["metadata"]["errors"]
    told = flags["python_grader_server_error_type"]
    raised = {"python_grader_server_error": True, "python_grader_server_error_type": told}
    assert (answer["reward"], flags) == (0, {**FLAGS, **raised})
    assert told
    answer = tried(caller, {**PYTHON, "source": "x = 1"})
    flags = answer["metadata"]["errors"]
    told = flags["python_grader_runtime_error_details"]
    raised = {"python_grader_runtime_error": True, "python_grader_runtime_error_details": told}
    assert (answer["reward"], flags) == (0, {**FLAGS, **raised})
    assert "grade" in told
    source = (
        "def grade(sample, item):\n    return float(sample['output_json']['a'] == item['label'])"
    )
    assert tried(caller, {**PYTHON, "source": source}, '{"a": "ab"}')["reward"] == 1


REFUSED: list[tuple[Any, str, str]] = [
    (None, "", "missing_required_parameter"),
    ({}, ".type", "missing_required_parameter"),
    ({"type": 5}, ".type", "invalid_type"),
    ({"type": "endpoint"}, ".type", "invalid_value"),
    ({**STRING_CHECK, "name": 5}, ".name", "invalid_type"),
    ({**GRADERS["multi"], "name": []}, ".name", "invalid_type"),
    ({**STRING_CHECK, "operation": "neq"}, ".operation", "invalid_value"),
    ({"type": "string_check", "input": "x"}, ".reference", "missing_required_parameter"),
    ({**CLOSE, "pass_threshold": "1"}, ".pass_threshold", "invalid_type"),
    ({**CLOSE, "evaluation_metric": "rouge_6"}, ".evaluation_metric", "invalid_value"),
    ({**PYTHON, "source": "x" * 256_001}, ".source", "string_above_max_length"),
    ({**PYTHON, "image_tag": 5}, ".image_tag", "invalid_type"),
    ({**GRADERS["label_model"], "passing_labels": ["x"]}, ".passing_labels[0]", "invalid_value"),
    ({**GRADERS["label_model"], "passing_labels": []}, ".passing_labels", "array_below_min_length"),
    (
        {**GRADERS["label_model"], "input": [{**MESSAGE, "role": "tool"}]},
        ".input[0].role",
        "invalid_value",
    ),
    ({**GRADERS["score_model"], "range": [1, 0]}, ".range", "invalid_value"),
    (
        {**GRADERS["score_model"], "sampling_params": {"max_completions_tokens": 0}},
        ".sampling_params.max_completions_tokens",
        "integer_below_min_value",
    ),
    (
        {**GRADERS["score_model"], "sampling_params": {"reasoning_effort": "lots"}},
        ".sampling_params.reasoning_effort",
        "invalid_value",
    ),
    (
        {**GRADERS["multi"], "graders": {"a": GRADERS["multi"]}, "calculate_output": "a"},
        ".graders.a.type",
        "invalid_value",
    ),
    (
        {**GRADERS["multi"], "graders": {"a": {**STRING_CHECK, "operation": 1}}},
        ".graders.a.operation",
        "invalid_type",
    ),
    (
        {**GRADERS["multi"], "graders": [STRING_CHECK, {}]},
        ".graders[1].type",
        "missing_required_parameter",
    ),
    ({**GRADERS["multi"], "graders": CLOSE}, ".graders", "invalid_type"),
    (
        {
            **GRADERS["multi"],
            "graders": {"a": CLOSE, "b": {**GRADERS["score_model"], "model": "?"}},
        },
        ".graders.b.model",
        "model_not_found",
    ),
    ({"type": "multi", "graders": {"a": CLOSE}}, ".calculate_output", "missing_required_parameter"),
]


def test_both_endpoints_refuse_the_same_by_its_place(caller: Caller) -> None:
    for grader, place, code in REFUSED:
        body = {} if grader is None else {"grader": grader}
        for path in (VALIDATE, RUN):
            status, answer = caller.post(path, {**body, "model_sample": "x"})
            error = answer.get("error", {})
            told = (status, error.get("type"), error.get("param"), error.get("code"))
            expected = (400, "invalid_request_error", f"grader{place}", code)
            assert told == expected, (path, grader, answer)


def test_a_sample_is_needed_and_an_item_is_not(caller: Caller) -> None:
    constant = {**STRING_CHECK, "input": "x", "reference": "x"}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "model_sample"),
        ({"model_sample": 5}, "model_sample"),
        ({"model_sample": "x", "item": []}, "item"),
    ]
    for fields, param in wrong:
        status, answer = caller.post(RUN, {"grader": constant, **fields})
        assert (status, answer["error"]["param"]) == (400, param)
    items: list[dict[str, Any]] = [{}, {"item": None}, {"item": {}}]
    for item in items:
        status, answer = caller.post(RUN, {"grader": constant, "model_sample": "", **item})
        assert (status, answer["reward"]) == (200, 1)
