"""The contract's tables, row by row, through the API: what every grader makes of what it is given.

contract.json holds the rows; docs/contracts/openai.md has them in sections 8, 9, 13, 14 and 24.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.inference.endpoints import add_endpoint
from apps.sandbox import find_runner
from tests.dialects.openai.caller import EVAL, STRING_CHECK, Caller, run_body, work
from tests.model_server import running

pytestmark = pytest.mark.django_db(transaction=True)

TABLES: dict[str, Any] = json.loads(Path(__file__).with_name("contract.json").read_text("utf-8"))
OPEN = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}
needs_sandbox = pytest.mark.skipif(find_runner() is None, reason="no sandbox on this machine")


def graded(
    criteria: list[dict[str, Any]], rows: list[dict[str, Any]], caller: Caller | None = None
) -> tuple[Any, list[Any]]:
    """Run an eval with these criteria over these rows; return the run and its items' results."""
    caller = caller or Caller()
    made = caller.new_eval(data_source_config=OPEN, testing_criteria=criteria)
    run = caller.new_run(made["id"], run_body(rows))
    work()
    where = f"/evals/{made['id']}/runs/{run['id']}"
    _, shown = caller.get(where)
    assert shown["status"] == "completed", shown["error"]
    _, page = caller.get(f"{where}/output_items", limit=100)
    return shown, [item["results"] for item in page["data"]]


def test_string_checks_compare_as_the_table_says() -> None:
    sides = {"input": "{{ item.input }}", "reference": "{{ item.reference }}"}
    operations = ["eq", "ne", "like", "ilike"]
    criteria = [{**STRING_CHECK, **sides, "operation": one} for one in operations]
    table = TABLES["string_check"]
    rows = [{"item": {"input": text, "reference": other}} for _, text, other, _ in table]
    _, items = graded(criteria, rows)
    for (operation, text, reference, score), results in zip(table, items, strict=True):
        result = results[operations.index(operation)]
        told = (operation, text, reference)
        assert (result["score"], result["passed"]) == (score, bool(score)), told


def test_texts_are_as_similar_as_the_table_says_and_a_threshold_that_is_met_passes() -> None:
    metrics, table = TABLES["metrics"], TABLES["text_similarity"]
    sides = {"input": "{{ item.input }}", "reference": "{{ item.reference }}"}
    criteria = [
        {
            "type": "text_similarity",
            "name": metric,
            **sides,
            "evaluation_metric": metric,
            "pass_threshold": 1,
        }
        for metric in metrics
    ]
    rows = [{"item": {"input": text, "reference": other}} for text, other, _ in table]
    shown, items = graded(criteria, rows)
    for (text, reference, scores), results in zip(table, items, strict=True):
        found = [round(result["score"], 4) for result in results]
        assert found == scores, (text, reference)
        assert [result["passed"] for result in results] == [score == 1 for score in scores]
    counts = shown["result_counts"]
    assert (counts["total"], counts["errored"]) == (len(table), 0)
    assert shown["per_model_usage"] == []


def test_judges_and_embeddings_score_as_the_tables_say_and_pass_from_the_threshold_on() -> None:
    scores, labels, cosine = (TABLES[name] for name in ("scores", "labels", "cosine"))
    results = [said for *_, said, _, _ in scores] + [said for said, *_ in labels]
    models = {said: f"answer:{json.dumps({'steps': [], 'result': said})}" for said in results}
    judge = {"name": "judge", "input": [{"role": "user", "content": "Judge {{ item.input }}"}]}
    words = {"labels": ["good", "fair", "bad"], "passing_labels": ["good", "fair"]}
    criteria = [
        *(
            {
                "type": "score_model",
                **judge,
                "model": models[said],
                "range": limits,
                "pass_threshold": threshold,
            }
            for limits, threshold, said, *_ in scores
        ),
        *({"type": "label_model", **judge, "model": models[said], **words} for said, *_ in labels),
        {
            "type": "text_similarity",
            "name": "cosine",
            "input": "{{ item.input }}",
            "reference": "{{ item.reference }}",
            "evaluation_metric": "cosine",
            "pass_threshold": 1,
        },
    ]
    rows = [{"item": {"input": text, "reference": other}} for text, other, _ in cosine]
    caller = Caller()
    with running() as server:
        add_endpoint(
            caller.actor,
            base_url=server.base_url,
            models=[*models.values()],
            embedding_models=["vectors"],
            allow_private=True,
        )
        _, items = graded(criteria, rows, caller)
    expected = [(score, passed) for *_, score, passed in [*scores, *labels]]
    for (text, other, score), (*judged, near) in zip(cosine, items, strict=True):
        assert [(one["score"], one["passed"]) for one in judged] == expected
        assert (round(near["score"], 4), near["passed"]) == (score, score == 1), (text, other)


@needs_sandbox
def test_code_scores_as_the_table_says() -> None:
    table = TABLES["python"]
    criteria = [
        {
            "type": "python",
            "name": body,
            "source": f"def grade(sample, item):\n    {body}\n",
            **({} if threshold is None else {"pass_threshold": threshold}),
        }
        for body, threshold, *_ in table
    ]
    assigned = {"grade = lambda sample, item: 0.25": 0.25, "grade = 5": 0.0}
    criteria += [{"type": "python", "name": one, "source": one} for one in assigned]
    row = {"item": {"label": "billing"}, "sample": {"output_text": "billing"}}
    shown, [results] = graded(criteria, [row])
    for (body, _, score, passed, flag), result in zip(table, results, strict=False):
        assert (result["type"], result["score"], result["passed"]) == ("python", score, passed)
        # contract: openai section 13.3: the reason, whenever no score was returned
        assert result.get("error", {}).get("code") == flag, body
        if "told you" in body:
            last = result["error"]["message"].splitlines()[-1]
            assert last == "ValueError: told you"
    assert [result["score"] for result in results[len(table) :]] == [*assigned.values()]
    # What is raised fails the item and is no error of ours.
    assert shown["result_counts"] == {"total": 1, "errored": 0, "failed": 1, "passed": 0}


@needs_sandbox
def test_code_that_is_tried_raises_its_flag() -> None:
    caller = Caller()
    for body, threshold, score, _, flag in TABLES["python"]:
        grader = {"type": "python", "source": f"def grade(sample, item):\n    {body}\n"}
        tried = {"grader": grader, "model_sample": "billing", "item": {"label": "billing"}}
        status, answer = caller.post("/fine_tuning/alpha/graders/run", tried)
        assert (status, answer["reward"]) == (200, score), (body, threshold)
        flags = {name for name, value in answer["metadata"]["errors"].items() if value is True}
        assert flags == ({flag} if flag else set()), body
        details = answer["metadata"]["errors"]["python_grader_runtime_error_details"]
        assert bool(details) is bool(flag), body


def test_templates_are_filled_as_the_table_says() -> None:
    table = TABLES["templates"]
    criteria = [
        {**STRING_CHECK, "input": template, "reference": f"{{{{ item.filled[{place}] }}}}"}
        for place, (template, _) in enumerate(table)
    ]
    item = {
        "text": "plain",
        "number": 42,
        "float": 0.5,
        "yes": True,
        "nothing": None,
        "object": {"a": [1, "é"]},
        "braces": "{{ item.text }} <b>&",
        "filled": [filled for _, filled in table],
    }
    call = {"name": "look_up", "arguments": '{"symbols": ["ACME"]}'}
    message = {
        "role": "assistant",
        "content": "said",
        "tool_calls": [{"id": "1", "type": "function", "function": call}],
    }
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    _, [results] = graded(criteria, [{"item": item, "sample": {"model": "m", "choices": [choice]}}])
    for (template, filled), result in zip(table, results, strict=True):
        assert result["passed"], (template, filled, result)


def test_formulas_count_as_the_table_says() -> None:
    caller = Caller()
    near = {
        "type": "text_similarity",
        "input": "ab",
        "reference": "ac",
        "evaluation_metric": "fuzzy_match",
    }
    parts = {"a": {**STRING_CHECK, "input": "x", "reference": "x"}, "b": near}
    for formula, value in TABLES["formulas"]:
        grader = {"type": "multi", "graders": parts, "calculate_output": formula}
        tried = {"grader": grader, "model_sample": ""}
        status, answer = caller.post("/fine_tuning/alpha/graders/run", tried)
        assert (status, answer["reward"]) == (200, pytest.approx(value)), formula
        assert answer["sub_rewards"] == {"a": 1.0, "b": 0.5}


@pytest.mark.parametrize(("content", "status", "word"), TABLES["files"])
def test_a_file_is_read_or_its_run_fails_and_says_where(
    content: str, status: str, word: str
) -> None:
    caller = Caller()
    _, file = caller.upload(SimpleUploadedFile("rows.jsonl", content.encode()))
    source = {"type": "file_id", "id": file["id"]}
    eval_id = caller.new_eval(testing_criteria=EVAL["testing_criteria"])["id"]
    code, run = caller.post(
        f"/evals/{eval_id}/runs", {"data_source": {"type": "jsonl", "source": source}}
    )
    if code == 400:  # what is plain at once is refused at once
        error = run["error"]
        assert error["param"].startswith("data_source.source")
        # A file of another shape is told by its shape, not by the place where it goes wrong.
        is_told = word in error["message"] or "seems to be" in error["message"]
        assert (status, is_told) == ("failed", True), run
        return
    work()
    _, shown = caller.get(f"/evals/{eval_id}/runs/{run['id']}")
    assert shown["status"] == status, shown
    if status == "failed":
        assert shown["error"]["code"]
        assert word in shown["error"]["message"], shown["error"]
        assert shown["result_counts"]["total"] == 0
    else:
        assert shown["result_counts"] == {"total": 2, "errored": 0, "failed": 1, "passed": 1}
