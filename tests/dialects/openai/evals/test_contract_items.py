"""Section 11 of docs/contracts/openai.md, row by row: what an output item says of its row."""

import json
import re
import time
from typing import Any

import pytest
from openai.types.evals.runs import OutputItemRetrieveResponse

from tests.dialects.openai.caller import (
    STRING_CHECK,
    TEXT_SIMILARITY,
    Caller,
    chat_body,
    run_body,
    work,
)
from tests.factories import make_endpoint
from tests.judgements import judgements
from tests.model_server import ModelServer

pytestmark = pytest.mark.django_db(transaction=True)

VERDICT = json.dumps({"steps": [{"description": "d", "conclusion": "c"}], "result": 0.75})
LABEL = 'answer:{"steps": [], "result": "good"}'
SCORE = f"answer:{VERDICT}"
NO_USAGE = {"total_tokens": 0, "completion_tokens": 0, "prompt_tokens": 0, "cached_tokens": 0}
NO_SAMPLE: dict[str, Any] = {
    "input": [],
    "output": [],
    "finish_reason": "",
    "model": "",
    "usage": NO_USAGE,
    "error": None,
    "temperature": 1.0,
    "top_p": 1.0,
    "seed": None,
    "max_completion_tokens": None,
}
ECHOED = {**STRING_CHECK, "input": "{{ sample.output_text }}"}
PICTURE = "data:image/png;base64,AAAA"


@pytest.fixture
def caller(server: ModelServer) -> Caller:
    caller = Caller()
    models = ["echo", "fail-400", SCORE, LABEL, "refusal"]
    make_endpoint(caller.actor, server.base_url, models=models)
    return caller


def items_of(
    caller: Caller, body: dict[str, Any], *criteria: dict[str, Any]
) -> tuple[str, list[str], list[Any]]:
    """Return a new run's path to its items when it has ended, its criteria's ids, and the items."""
    made = caller.new_eval(testing_criteria=criteria)
    where = f"/evals/{made['id']}/runs/{caller.new_run(made['id'], body)['id']}/output_items"
    work()
    keys = [criterion["id"] for criterion in made["testing_criteria"]]
    return where, keys, caller.get(where)[1]["data"]


def test_an_item_of_a_row_that_brought_no_sample_has_these_fields(caller: Caller) -> None:
    rows: list[dict[str, Any]] = [
        {"item": {"answer": "a", "label": "a", "extra": {"kept": [1, None]}}},
        {"item": {"answer": "a", "label": "b"}},
        {"item": {"label": "c"}},
    ]
    near = {**TEXT_SIMILARITY, "evaluation_metric": "fuzzy_match"}
    constant = {**STRING_CHECK, "input": "x", "reference": "x"}
    criteria = [near, STRING_CHECK, constant]
    where, keys, items = items_of(caller, run_body(rows), *criteria)
    _, evals, eval_id, _, run_id, _ = where.split("/")
    assert evals == "evals"
    verdicts: list[list[Any]] = [[1.0, 1.0, 1.0], [0.0, 0.0, 1.0], [None, None, 1.0]]
    unfilled = {"code": "invalid_variable_error"}
    for index, (item, row, scores) in enumerate(zip(items, rows, verdicts, strict=True)):
        assert re.fullmatch(r"outputitem_[0-9a-f]{32}", item["id"])
        assert abs(item["created_at"] - time.time()) < 60
        for result in item["results"]:
            if "error" in result:
                assert result["error"].pop("message")
        assert item == {
            "object": "eval.run.output_item",
            "id": item["id"],
            "run_id": run_id,
            "eval_id": eval_id,
            "created_at": item["created_at"],
            "status": ("pass", "fail", "error")[index],
            "datasource_item_id": index,
            "datasource_item": row["item"],
            "results": [
                {
                    "name": key,
                    "type": criterion["type"],
                    "sample": None,
                    "score": score or 0.0,
                    "passed": bool(score),
                    **({"error": unfilled} if score is None else {}),
                }
                for key, criterion, score in zip(keys, criteria, scores, strict=True)
            ],
            "sample": NO_SAMPLE,
        }
    assert caller.get(f"{where}/{items[0]['id']}") == (200, items[0])
    # What hosted items leave out or have as null, the client's types do not know as such.
    present = {"seed": 0, "max_completion_tokens": 0, "error": {"code": "", "message": ""}}
    OutputItemRetrieveResponse.model_validate({**items[0], "sample": {**NO_SAMPLE, **present}})


def test_a_sampled_item_shows_what_was_asked_and_said_and_a_failed_one_why(
    caller: Caller,
) -> None:
    parts = [
        {"type": "input_text", "text": "see {{ item.label }} "},
        {"type": "input_image", "image_url": "{{ item.url }}", "detail": "low"},
    ]
    messages = [{"role": "developer", "content": "Repeat."}, {"role": "user", "content": parts}]
    rows = [{"item": {"label": "it", "url": PICTURE}}]
    params = {"temperature": 0.5, "top_p": 0.25, "seed": 7, "max_completion_tokens": 9}
    asked = {
        "source": {"type": "file_content", "content": rows},
        "input_messages": {"type": "template", "template": messages},
        "sampling_params": params,
    }
    _, _, [item] = items_of(caller, chat_body("echo", **asked), ECHOED)
    said = item["sample"]["output"]
    assert item["sample"] == {
        "input": [
            {"role": "developer", "content": "Repeat."},
            {"role": "user", "content": f"see it <image>{PICTURE}</image>"},
        ],
        "output": said,
        "finish_reason": "stop",
        "model": "echo",
        "usage": {**NO_USAGE, "total_tokens": 5, "prompt_tokens": 3, "completion_tokens": 2},
        "error": None,
        **params,
    }
    [answer] = said
    assert (answer["role"], answer["content"].split()) == ("assistant", ["see", "it"])
    _, _, [item] = items_of(caller, chat_body("fail-400", **asked), ECHOED)
    error = item["sample"]["error"]
    assert error.keys() == {"code", "message"}
    assert item["sample"] == {
        **NO_SAMPLE,
        **params,
        "model": "fail-400",
        "input": item["sample"]["input"],
        "error": error,
    }
    [result] = item["results"]
    assert (item["status"], result["passed"], result["error"]) == ("error", False, error)


def test_a_sample_that_came_along_is_shown_with_its_calls(caller: Caller) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    sample = {"model": "m-1", "choices": [choice], "usage": usage, "odd": [1]}
    rows = [{"item": {"label": ""}, "sample": sample}]
    called = {**ECHOED, "input": "{{ sample.output_tools[0].function.name }}", "reference": "f"}
    _, _, [item] = items_of(caller, run_body(rows), ECHOED, called)
    # contract: openai section 10: the text is "" where the content is null
    assert [result["passed"] for result in item["results"]] == [True, True]
    assert item["sample"] == {
        **NO_SAMPLE,
        "output": [message],
        "finish_reason": "tool_calls",
        "model": "m-1",
        "usage": {
            "total_tokens": 7,
            "completion_tokens": 2,
            "prompt_tokens": 5,
            "cached_tokens": 4,
        },
    }


def test_a_result_of_a_judge_shows_the_exchange_in_the_form_of_a_sample(caller: Caller) -> None:
    messages = [{"role": "user", "content": "Judge {{ item.answer }}"}]
    params = {"seed": 3, "temperature": 0.5, "top_p": 0.25, "reasoning_effort": "low"}
    judge = {"input": messages, "sampling_params": {**params, "max_completions_tokens": 50}}
    labels = {"labels": ["good", "bad"], "passing_labels": ["good"]}
    _, keys, [item] = items_of(
        caller,
        run_body([{"item": {"answer": "a", "label": "a"}}]),
        {"type": "score_model", "name": "score", "model": SCORE, **judge},
        STRING_CHECK,
        {"type": "label_model", "name": "label", "model": LABEL, "input": messages, **labels},
        {"type": "label_model", "name": "not", "model": "refusal", "input": messages, **labels},
    )
    score, same, label, refused = item["results"]
    assert [result["name"] for result in item["results"]] == keys
    assert (score["score"], same["score"], label["score"]) == (0.75, 1.0, 1.0)
    assert (score["passed"], same["sample"], item["status"]) == (True, None, "error")
    exchange = {
        "input": [{"role": "user", "content": "Judge a"}],
        "finish_reason": "stop",
        "model": SCORE,
        "error": None,
        "temperature": 0.5,
        "top_p": 0.25,
        "seed": 3,
        "max_completion_tokens": 50,
    }
    assert score["sample"].items() >= exchange.items()
    sent = {
        one.criterion.name: json.loads(one.exchange or "{}")["params"]
        for one in judgements()
        if one.exchange is not None
    }
    # contract: openai section 13.4: an object of steps and then the result
    for name, verdict in (
        ("score", {"type": "number"}),
        ("label", {"type": "string", "enum": ["good", "bad"]}),
    ):
        form = sent[name].pop("response_format")
        properties = form["json_schema"]["schema"]["properties"]
        assert (form["type"], [*properties]) == ("json_schema", ["steps", "result"])
        assert properties["steps"]["items"]["required"] == ["description", "conclusion"]
        assert properties["result"] == verdict
    assert sent["score"] == {**params, "max_completion_tokens": 50}
    for result in (score, label, refused):
        assert result["sample"].keys() == NO_SAMPLE.keys()
        assert result["sample"]["usage"]["total_tokens"] > 0
    # Notebooks read the judge's JSON there.
    assert json.loads(score["sample"]["output"][0]["content"]) == json.loads(VERDICT)
    assert refused["error"]["code"] == "model_grader_refusal_error"
    assert refused["sample"]["error"] == refused["error"]
    assert refused["sample"]["output"][0]["refusal"]
