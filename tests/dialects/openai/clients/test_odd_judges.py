"""Judges and programs that give verdicts in odd ways, or none, through the vendor's client."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from apps.sandbox import find_runner
from tests.dialects.openai.clients.waiting import wait_over
from tests.shared_server import Platform

PARSE = "model_grader_parse_error"
SAYS = '{"steps": [], "result": %s}'


def answer(result: str) -> str:
    return f"answer:{SAYS % result}"


def choice(content: Any, reason: str = "stop") -> str:
    return f"choice:{json.dumps({'finish_reason': reason, 'message': {'content': content}})}"


HALF = answer("0.5")
PARTS = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": SAYS % "0.5"}]
# A judge -> its score, in a range from -1 to 1.
SCORED = {
    answer('"0.8"'): 0.8,
    answer("7"): 1.0,
    answer("-7"): -1.0,
    f"answer:<think>Say 0.1: {SAYS % '0.1'}</think>{SAYS % '0.5'}": 0.5,
    f"answer:I should say:\n```json\n{SAYS % '0.5'}\n```\nThat is all.": 0.5,
    choice(PARTS): 0.5,
    f"told:JSON Schema:{HALF}": 0.5,
    f"unstructured:{HALF}": 0.5,
    f"system-first:told:JSON Schema:{HALF}": 0.5,
    "answer:**0.5**": 0.5,
}
# A judge -> the code of its error, and a word of the message.
UNSCORED = {
    answer('"N/A"'): (PARSE, "N/A"),
    answer("null"): (PARSE, "null"),
    'answer:{"steps": []}': (PARSE, "no result"),
    "answer:Score: 0.9": (PARSE, "Score: 0.9"),
    "answer:9/10": (PARSE, "9/10"),
    choice(None, "length"): ("length", "limit of tokens"),
    choice("I think", "length"): ("length", "limit of tokens"),
    choice("", "content_filter"): ("content_filter", "content filter"),
    choice(None, "network_error"): ("model_grader_server_error", "network_error"),
}
# A judge -> whether its label is a passing one; None where it is no label.
LABELLED = {
    answer('"Good"'): True,
    "answer:**good**": True,
    "answer:Bad.": False,
    "answer:<think>good?</think>bad": False,
    "answer:Label: good": None,
    answer('"fair"'): None,
}
# A grader's body -> the code of its error; None where it returned a score.
PROGRAMS = {
    "return 0.0": None,
    "return 0.0 if sample['output_tools'] else 1.0": None,
    "return 1.0 if sample['output_json'] is sample['output_audio'] is None else 0.0": None,
    "raise ValueError('told you')": "python_grader_runtime_error",
    "return 'good'": "python_grader_runtime_error",
    "return float('nan')": "python_grader_runtime_error",
    "import os; os._exit(0)": "python_grader_server_error",
}
CALLED = "{{ sample.output_tools[0].function.name }}"


def criteria() -> list[dict[str, Any]]:
    asked = [{"role": "user", "content": "Judge {{ item.n }}: {{ sample.output_text }}"}]
    scored = {"input": asked, "range": [-1, 1], "pass_threshold": 0}
    labelled = {"input": asked, "labels": ["good", "bad"], "passing_labels": ["good"]}
    made: list[dict[str, Any]] = [
        {"type": "score_model", "model": model, **scored} for model in (*SCORED, *UNSCORED)
    ]
    made += [{"type": "label_model", "model": model, **labelled} for model in LABELLED]
    if find_runner() is not None:
        grade = "def grade(sample, item):\n    "
        made += [{"type": "python", "source": grade + body} for body in PROGRAMS]
    made.append(
        {"type": "string_check", "input": CALLED, "reference": "look_up", "operation": "ne"}
    )
    return [{**one, "name": f"criterion {at}"} for at, one in enumerate(made)]


@pytest.fixture(scope="module")
def key(platform: Platform) -> str:
    models = {*SCORED, *UNSCORED, *LABELLED}
    return platform.open_account("odd judges", *sorted(models), concurrency=32)


@pytest.fixture(scope="module")
def client(platform: Platform, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=platform.openai_url, api_key=key, max_retries=0) as client:
        yield client


def test_a_verdict_is_read_wherever_it_is_and_no_verdict_is_never_a_number(
    platform: Platform, client: openai.OpenAI
) -> None:
    config: Any = {"type": "custom", "item_schema": {"type": "object"}}
    sent: Any = criteria()
    made = client.evals.create(name="odd", data_source_config=config, testing_criteria=sent)
    rows: Any = [{"item": {"n": n}, "sample": {"output_text": "Well."}} for n in range(3)]
    source: Any = {"type": "jsonl", "source": {"type": "file_content", "content": rows}}
    run = wait_over(client, client.evals.runs.create(made.id, data_source=source), 120)
    assert (run.status, run.result_counts.errored) == ("completed", 3), run
    items = list(client.evals.runs.output_items.list(run.id, eval_id=made.id))
    for item in items:
        for criterion, result in zip(sent, item.results, strict=True):
            check(criterion, result)
    lines = run.per_testing_criteria_results
    errored = sum(line.errored for line in lines)  # type: ignore[attr-defined]  # the types lack it
    assert errored == 3 * (len(UNSCORED) + [*LABELLED.values()].count(None))
    exported = platform.served.manage("export_run", run.id, "--output", "-")
    for told in ("limit of tokens", 'gives \\"N/A\\", which is not a number', "9/10"):
        assert exported.count(told) >= 3, told
    assert find_runner() is None or exported.count("ValueError: told you") >= 3


def check(criterion: dict[str, Any], result: Any) -> None:
    assert result.type == criterion["type"]
    error = getattr(result, "error", None)
    told = (criterion, result)
    if criterion["type"] == "score_model" and criterion["model"] in SCORED:
        score = SCORED[criterion["model"]]
        assert (result.score, result.passed, error) == (score, score >= 0, None), told
        given = {1.0: 7, -1.0: -7}.get(score)
        assert getattr(result, "clamped_from", None) == given, told
    elif criterion["type"] == "score_model":
        code, word = UNSCORED[criterion["model"]]
        assert (result.score, result.passed, error["code"]) == (0, False, code), told
        assert word in error["message"], told
        said = result.sample["output"]
        assert "I think" not in criterion["model"] or said[0]["content"] == "I think"
    elif criterion["type"] == "label_model":
        passed = LABELLED[criterion["model"]]
        assert (result.score, result.passed) == (float(passed or 0), bool(passed)), told
        assert (error is None) is (passed is not None), told
    elif criterion["type"] == "python":
        body = criterion["source"].partition("\n    ")[2]
        code = PROGRAMS[body]
        passed = "else" in body
        assert (result.score, result.passed) == (float(passed), passed), told
        assert (error and error["code"]) == code, told
        assert "told you" not in body or error["message"].endswith("ValueError: told you\n")
    else:
        assert (result.score, result.passed, error) == (1.0, True, None), told
