"""Section 4 of docs/contracts/openai.md, row by row: what an eval takes, shows and changes."""

import re
import time
from typing import Any
from uuid import UUID

import pytest
from openai.types import EvalCreateResponse

from apps.sandbox import find_runner
from tests.dialects.openai.caller import EVAL, ROWS, STRING_CHECK, TEXT_SIMILARITY, Caller, stored

pytestmark = pytest.mark.django_db

MESSAGES = [
    {"role": "developer", "content": "Judge."},
    {"role": "user", "content": {"type": "input_text", "text": "{{ item.answer }}"}},
    {"role": "assistant", "content": ["so", {"type": "output_text", "text": "so"}]},
]
JUDGE = {"name": "judge", "model": "builtin/echo", "input": MESSAGES}
LABEL_MODEL = {
    "type": "label_model",
    **JUDGE,
    "labels": ["good", "fair", "bad"],
    "passing_labels": ["good", "fair"],
}
SCORE_MODEL = {"type": "score_model", **JUDGE, "range": [1, 7], "pass_threshold": 5.5}
PYTHON = {
    "type": "python",
    "name": "code",
    "source": "def grade(sample, item):\n    return 1.0",
    "image_tag": "2025-05-08",
    "pass_threshold": 0.5,
}
# Each with the class that the vendor's client has for it.
CRITERIA: list[tuple[dict[str, Any], str]] = [
    (STRING_CHECK, "StringCheckGrader"),
    (TEXT_SIMILARITY, "TestingCriterionEvalGraderTextSimilarity"),
    (LABEL_MODEL, "LabelModelGrader"),
    (SCORE_MODEL, "TestingCriterionEvalGraderScoreModel"),
    (
        {**SCORE_MODEL, "range": None, "pass_threshold": None, "sampling_params": None},
        "TestingCriterionEvalGraderScoreModel",
    ),
]
IN_SANDBOX = [
    (PYTHON, "TestingCriterionEvalGraderPython"),
    ({**PYTHON, "image_tag": None, "pass_threshold": None}, "TestingCriterionEvalGraderPython"),
]


def shown_of(sent: dict[str, Any], key: str) -> dict[str, Any]:
    """Make a criterion as the contract returns it."""
    shown = {**sent, "id": key, "grdr_id": None, "inactive_at": None}
    if sent["type"] in ("label_model", "score_model"):
        shown["input"] = [{**message, "type": "message"} for message in sent["input"]]
    if sent["type"] == "label_model":
        shown["sampling_params"] = None
    return shown


def test_an_eval_has_these_fields_and_each_criterion_those_of_its_type() -> None:
    caller = Caller()
    criteria = [*CRITERIA, *(IN_SANDBOX if find_runner() else [])]
    made = caller.new_eval(testing_criteria=[sent for sent, _ in criteria])
    keys = [criterion["id"] for criterion in made["testing_criteria"]]
    assert made == {
        "object": "eval",
        "id": made["id"],
        "name": "Tickets",
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
        "data_source_config": made["data_source_config"],
        "testing_criteria": [
            shown_of(sent, key) for (sent, _), key in zip(criteria, keys, strict=True)
        ],
        "metadata": {"team": "support"},
    }
    assert re.fullmatch(r"eval_[0-9a-f]{32}", made["id"])
    assert abs(made["created_at"] - time.time()) < 60
    for (sent, _), key in zip(criteria, keys, strict=True):
        name, uuid = key[:-37], key[-36:]
        assert (name, UUID(uuid).version) == (sent["name"], 4)
    assert len(set(keys)) == len(keys)
    # The client takes what does not validate for a label_model, without a word.
    read = EvalCreateResponse.model_validate(made).testing_criteria
    assert [type(one).__name__ for one in read] == [kind for _, kind in criteria]
    assert caller.get(f"/evals/{made['id']}") == (200, made)


TAKEN: list[dict[str, Any]] = [
    {"name": "n"},
    {"name": "ü" * 256},
    {"metadata": {}},
    {"metadata": {"k" * 64: "v" * 512, "é" * 64: "", "": "x"}},
    {"metadata": {str(number): "v" for number in range(16)}},
]
LONG = {str(number): "v" for number in range(17)}
# What is said of both requests that take these fields.
REFUSED_OF_BOTH: list[tuple[dict[str, Any], str, str]] = [
    ({"name": 5}, "name", "invalid_type"),
    ({"name": None}, "name", "invalid_type"),
    ({"name": ""}, "name", "invalid_value"),
    ({"metadata": []}, "metadata", "invalid_type"),
    ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
    ({"metadata": {"a": None}}, "metadata.a", "invalid_type"),
    ({"metadata": LONG}, "metadata", "object_above_max_properties"),
    ({"metadata": {"k" * 65: "v"}}, "metadata", "string_above_max_length"),
    ({"metadata": {"a": "v" * 513}}, "metadata.a", "string_above_max_length"),
    ({"nmae": "x"}, "nmae", "unknown_parameter"),
]
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    *REFUSED_OF_BOTH,
    ({"data_source_config": None}, "data_source_config", "invalid_type"),
    ({"data_source_config": {}}, "data_source_config.type", "missing_required_parameter"),
    ({"data_source_config": {"type": "files"}}, "data_source_config.type", "invalid_value"),
    (
        {"data_source_config": {"type": "custom"}},
        "data_source_config.item_schema",
        "missing_required_parameter",
    ),
    ({"testing_criteria": None}, "testing_criteria", "invalid_type"),
    ({"testing_criteria": STRING_CHECK}, "testing_criteria", "invalid_type"),
    ({"testing_criteria": []}, "testing_criteria", "array_below_min_length"),
]
# One criterion that is wrong, and where.
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"name": "x"}, ".type", "missing_required_parameter"),
    ({"type": "endpoint", "name": "x"}, ".type", "invalid_value"),
    (
        {"type": "multi", "name": "x", "graders": {"a": STRING_CHECK}, "calculate_output": "a"},
        ".type",
        "invalid_value",
    ),
    ({**STRING_CHECK, "name": ""}, ".name", "invalid_value"),
    ({**STRING_CHECK, "operation": "neq"}, ".operation", "invalid_value"),
    (
        {key: value for key, value in TEXT_SIMILARITY.items() if key != "pass_threshold"},
        ".pass_threshold",
        "missing_required_parameter",
    ),
    ({**TEXT_SIMILARITY, "pass_threshold": None}, ".pass_threshold", "invalid_type"),
    ({**TEXT_SIMILARITY, "evaluation_metric": "rouge_6"}, ".evaluation_metric", "invalid_value"),
    ({**LABEL_MODEL, "passing_labels": ["good", "x"]}, ".passing_labels[1]", "invalid_value"),
    ({**LABEL_MODEL, "passing_labels": []}, ".passing_labels", "array_below_min_length"),
    ({**LABEL_MODEL, "model": "nobody"}, ".model", "model_not_found"),
    ({**LABEL_MODEL, "input": []}, ".input", "array_below_min_length"),
    (
        {**LABEL_MODEL, "input": [{"role": "tool", "content": ""}]},
        ".input[0].role",
        "invalid_value",
    ),
    ({**SCORE_MODEL, "range": [7, 1]}, ".range", "invalid_value"),
    ({**SCORE_MODEL, "range": [1]}, ".range", "array_below_min_length"),
    (
        {**SCORE_MODEL, "sampling_params": {"max_completions_tokens": 0}},
        ".sampling_params.max_completions_tokens",
        "integer_below_min_value",
    ),
    ({**PYTHON, "source": "x" * 256_001}, ".source", "string_above_max_length"),
    ({**PYTHON, "source": "def grade(item): pass"}, ".source", "invalid_value"),
    ({**PYTHON, "source": None}, ".source", "invalid_type"),
]


def test_a_field_is_taken_to_its_limit_and_refused_beyond_it() -> None:
    caller = Caller()
    for fields in TAKEN:
        assert caller.new_eval(**fields).items() >= fields.items()
    for name in ("data_source_config", "testing_criteria"):
        status, answer = caller.post("/evals", {key: EVAL[key] for key in EVAL if key != name})
        told = (status, answer["error"]["param"], answer["error"]["code"])
        assert told == (400, name, "missing_required_parameter")
    before = stored()
    second = [
        ({"testing_criteria": [STRING_CHECK, one]}, f"testing_criteria[1]{place}", code)
        for one, place, code in WRONG
    ]
    for fields, param, code in [*REFUSED, *second]:
        status, answer = caller.post("/evals", {**EVAL, **fields})
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error"), fields
        assert (answer["error"]["param"], answer["error"]["code"]) == (param, code), answer
    assert stored() == before


def test_an_update_changes_name_and_metadata_and_nothing_else() -> None:
    caller = Caller()
    first, second = caller.new_eval(), caller.new_eval()
    where = f"/evals/{first['id']}"

    def last_changed() -> str:
        page = caller.get("/evals", order_by="updated_at", order="desc", limit=1)[1]
        changed: str = page["data"][0]["id"]
        return changed

    unchangeable = [
        ({name: second[name]}, name, "unknown_parameter")
        for name in ("testing_criteria", "data_source_config", "id", "created_at", "object")
    ]
    for fields, param, code in [*REFUSED_OF_BOTH, *unchangeable]:
        status, answer = caller.post(where, {"name": "kept out", **fields})
        told = (status, answer["error"]["param"], answer["error"]["code"])
        assert told == (400, param, code), fields
    assert caller.post(where, {}) == caller.get(where) == (200, first)
    assert last_changed() == second["id"]
    for fields in TAKEN:
        status, shown = caller.post(where, fields)
        assert status == 200
        assert shown.items() >= fields.items()
        assert last_changed() == first["id"]
        assert {**shown, "name": "", "metadata": {}, "updated_at": 0} == {
            **first, "name": "", "metadata": {}, "updated_at": 0
        }  # fmt: skip
        assert caller.get(where) == (200, shown)
    assert caller.get(f"/evals/{second['id']}") == (200, second)


def test_every_route_under_a_deleted_eval_gives_404() -> None:
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    run_id = caller.new_run(eval_id)["id"]
    caller.delete(f"/evals/{eval_id}")
    run = f"/evals/{eval_id}/runs/{run_id}"
    item = f"{run}/output_items/outputitem_{'0' * 32}"
    body = {"data_source": {"type": "jsonl", "source": {"type": "file_content", "content": ROWS}}}
    for status, answer in (
        *(
            caller.get(path)
            for path in (f"/evals/{eval_id}/runs", run, f"{run}/output_items", item)
        ),
        *(caller.delete(path) for path in (f"/evals/{eval_id}", run)),
        *(caller.post(path) for path in (run, f"{run}/cancel", f"/evals/{eval_id}")),
        caller.post(f"/evals/{eval_id}/runs", body),
    ):
        assert (status, answer["error"]["code"]) == (404, "not_found")
        assert (answer["error"]["type"], answer["error"]["param"]) == (
            "invalid_request_error",
            None,
        )
