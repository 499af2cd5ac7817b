"""The graders that the vendor lacks, as testing criteria: accepted, echoed, refused, run."""

from collections.abc import Iterator
from typing import Any

import pytest

from apps.evaluations.services.endpoints import add_endpoint
from tests.dialects.openai.caller import EVAL, Caller, run_body, work
from tests.model_server import ModelServer, running

REFEREE = 'answer:{"score": 0.25}'
SIDES = {"input": "{{ item.answer }}", "reference": "{{ item.label }}"}
CRITERIA: list[dict[str, Any]] = [
    *(
        {"type": kind, "name": kind, **SIDES}
        for kind in ("match", "includes", "fuzzy_match", "json_match")
    ),
    {"type": "levenshtein", "name": "levenshtein", **SIDES, "pass_threshold": 0.5},
    {"type": "embedding_distance", "name": "far", "model": "vectors", **SIDES},
    {
        "type": "prompt_judge",
        "name": "judge",
        "model": REFEREE,
        "prompt": "Rate {{ actual }} by {{ ideal }}.",
        "is_template": True,
        "params": {"temperature": 0},
        "actual": "{{ item.answer }}",
        "ideal": "{{ item.label }}",
        "pass_threshold": 0.5,
    },
]
ROWS = [{"item": {"answer": "[1, 0]", "label": "[1,0]"}}]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with running() as server:
        yield server


@pytest.fixture
def caller(server: ModelServer) -> Caller:
    caller = Caller()
    add_endpoint(
        caller.actor,
        base_url=server.base_url,
        models=[REFEREE],
        embedding_models=["vectors"],
        allow_private=True,
    )
    return caller


def test_they_are_echoed_as_they_were_sent_and_judge_what_is_run(caller: Caller) -> None:
    status, made = caller.post("/evals", {**EVAL, "testing_criteria": CRITERIA})
    assert status == 201, made
    for shown, sent in zip(made["testing_criteria"], CRITERIA, strict=True):
        assert shown.items() >= sent.items()
    status, run = caller.post(f"/evals/{made['id']}/runs", run_body(ROWS))
    assert status == 201, run
    work()
    _, page = caller.get(f"/evals/{made['id']}/runs/{run['id']}/output_items")
    [item] = page["data"]
    results = {
        shown["name"]: next(one for one in item["results"] if one["name"] == shown["id"])
        for shown in made["testing_criteria"]
    }
    assert {name: (result["score"], result["passed"]) for name, result in results.items()} == {
        "match": (0.0, False),
        "includes": (0.0, False),
        "fuzzy_match": (0.0, False),
        "json_match": (1.0, True),
        "levenshtein": (pytest.approx(5 / 6), True),
        "far": (1.0, True),
        "judge": (0.25, False),
    }
    # What has no threshold passes above zero, in the counts as in the items.
    assert item["status"] == "fail"
    _, shown = caller.get(f"/evals/{made['id']}/runs/{run['id']}")
    assert shown["result_counts"] == {"total": 1, "errored": 0, "failed": 1, "passed": 0}
    assert [line["passed"] for line in shown["per_testing_criteria_results"]] == [
        int(result["passed"]) for result in results.values()
    ]
    [system, user] = results["judge"]["sample"]["input"]
    assert system["content"] == "Rate [1, 0] by [1,0]."
    assert user["content"] == ""


@pytest.mark.parametrize(
    ("place", "change", "param"),
    [
        (0, {"choices": 1}, "choices"),
        (0, {"input": "{{ other.x }}"}, "input"),
        (5, {"model": REFEREE}, "model"),
        (5, {"model": None}, "model"),
        (6, {"model": "vectors"}, "model"),
        (6, {"prompt": "{{ actual"}, "prompt"),
        (6, {"prompt": "{{ actual.strip() }}"}, "prompt"),
        (6, {"params": {"messages": []}}, "params.messages"),
        (6, {"params": []}, "params"),
        (6, {"is_template": "yes"}, "is_template"),
        (6, {"type": "multi"}, "type"),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(
    caller: Caller, place: int, change: dict[str, Any], param: str
) -> None:
    criteria = [{**CRITERIA[place], **change}]
    status, refused = caller.post("/evals", {**EVAL, "testing_criteria": criteria})
    assert status == 400
    assert refused["error"]["param"] == f"testing_criteria[0].{param}"


@pytest.mark.parametrize(("answer", "status"), [("[1, 0]", "pass"), ("x" * 20, "fail")])
def test_without_a_threshold_a_score_above_zero_passes(
    answer: str, status: str, caller: Caller
) -> None:
    [criterion] = [{**one} for one in CRITERIA if one["name"] == "levenshtein"]
    del criterion["pass_threshold"]
    made = caller.new_eval(testing_criteria=[criterion])
    assert "pass_threshold" not in made["testing_criteria"][0]
    run = caller.new_run(made["id"], run_body([{"item": {"answer": answer, "label": "[1,0]"}}]))
    work()
    where = f"/evals/{made['id']}/runs/{run['id']}"
    _, page = caller.get(f"{where}/output_items", status=status)
    [item] = page["data"]
    assert [result["passed"] for result in item["results"]] == [status == "pass"]
    _, shown = caller.get(where)
    counts = shown["result_counts"]
    assert (counts["total"], counts["passed"], counts["failed"]) == (
        1,
        int(status == "pass"),
        int(status == "fail"),
    )


def test_they_are_tried_on_one_sample(caller: Caller) -> None:
    grader = {**CRITERIA[6], "actual": "{{ sample.output_text }}"}
    body = {"grader": grader, "model_sample": "x", "item": {"label": "y"}}
    status, tried = caller.post("/fine_tuning/alpha/graders/run", body)
    assert status == 200, tried
    assert tried["reward"] == 0.25
    wrong = {"grader": {**grader, "prompt": "{{ a() }}"}, "model_sample": "x"}
    status, refused = caller.post("/fine_tuning/alpha/graders/run", wrong)
    assert (status, refused["error"]["param"]) == (400, "grader.prompt")
