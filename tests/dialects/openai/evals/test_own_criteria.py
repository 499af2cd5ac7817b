"""The graders that the vendor lacks, as testing criteria: accepted, echoed, refused, run."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from openai.types import EvalRetrieveResponse
from openai.types.graders import LabelModelGrader

from apps.evaluations.models import Criterion
from apps.evaluations.services.evaluations import NewCriterion, create_evaluation
from apps.evaluations.services.named_runs import name_evaluation
from apps.inference.endpoints import add_endpoint
from evalplatform.dialects.openai.evals.criteria import GRADERS, own_criterion
from tests.dialects.openai.caller import EVAL, Caller, run_body, work
from tests.model_server import ModelServer

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


def test_any_text_of_a_list_counts(caller: Caller) -> None:
    kinds = ("match", "includes", "fuzzy_match")
    criteria = [{"type": kind, "name": kind, **SIDES} for kind in kinds]
    config = {"type": "custom", "item_schema": {"type": "object"}}
    body = {"data_source_config": config, "testing_criteria": criteria}
    _, made = caller.post("/evals", body)
    answers = ("Rome", "in Rome", "the ROME", "Oslo")
    rows = [{"item": {"answer": one, "label": ["Paris", "Rome"]}} for one in answers]
    _, run = caller.post(f"/evals/{made['id']}/runs", run_body(rows))
    work()
    _, shown = caller.get(f"/evals/{made['id']}/runs/{run['id']}")
    passed = [line["passed"] for line in shown["per_testing_criteria_results"]]
    assert (shown["status"], passed) == ("completed", [1, 2, 3])


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


def appearance(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Make a criterion of another face as the contract says that it looks."""
    texts: dict[str, Any] = {
        "input": settings.get("input", "{{ sample.output_text }}"),
        "reference": settings.get("reference", "{{ item.ideal }}"),
    }
    operations = {"match": "eq", "json_match": "eq", "includes": "like", "fuzzy_match": "ilike"}
    if kind in operations:
        return {"type": "string_check", **texts, "operation": operations[kind]}
    # A criterion without a threshold passes above zero.
    threshold = settings.get("pass_threshold", 5e-324)
    if kind == "prompt_judge":
        prompt = {"type": "message", "role": "system", "content": settings["prompt"]}
        judge = {"type": "score_model", "model": REFEREE, "input": [prompt], "range": None}
        return {**judge, "pass_threshold": threshold}
    metric = {"levenshtein": "fuzzy_match", "embedding_distance": "cosine"}[kind]
    near = {"type": "text_similarity", "evaluation_metric": metric}
    return {**near, **texts, "pass_threshold": threshold}


def test_those_of_another_face_appear_as_the_vendors_and_come_back_from_an_export_as_they_are(
    caller: Caller, tmp_path: Path
) -> None:
    bare = [{name: one[name] for name in ("type", "name")} for one in CRITERIA[:5]]
    criteria = [*CRITERIA, *bare]
    settings = [
        {name: value for name, value in one.items() if name not in {"type", "name"}}
        for one in criteria
    ]
    evaluation = create_evaluation(
        caller.actor,
        criteria=[
            NewCriterion(one["type"], one["name"], rest)
            for one, rest in zip(criteria, settings, strict=True)
        ],
        item_schema={},
        has_sample=True,
    )
    [shown] = caller.get("/evals")[1]["data"]
    assert shown["id"] == f"eval_{evaluation.pk.hex}"
    assert shown["testing_criteria"] == [
        {
            **appearance(sent["type"], rest),
            "name": sent["name"],
            "id": one["id"],
            "kind": sent["type"],
            "settings": rest,
            "grdr_id": None,
            "inactive_at": None,
        }
        for one, sent, rest in zip(shown["testing_criteria"], criteria, settings, strict=True)
    ]
    read = EvalRetrieveResponse.model_validate(shown).testing_criteria
    for one in read:
        # Which is what the client takes for anything that it does not know.
        assert not isinstance(one, LabelModelGrader), one
    run = caller.new_run(shown["id"], run_body(ROWS))
    work()
    to_folder = ("--format", "folder", "--output", str(tmp_path / "run"))
    call_command("export_run", run["id"], *to_folder, stdout=StringIO())
    there = Caller()
    assert there.actor.account is not None
    account = ("--account", there.actor.account.name)
    call_command("import_openai_export", str(tmp_path / "run"), *account, stdout=StringIO())
    found = Criterion.objects.filter(evaluation__account=there.actor.account).order_by("position")
    assert [(one.kind, one.name, one.read_settings()) for one in found] == [
        (one["type"], one["name"], rest) for one, rest in zip(criteria, settings, strict=True)
    ]


def test_a_list_that_is_compared_as_json_is_told_beside_the_score(caller: Caller) -> None:
    check = {"type": "string_check", "name": "same", "operation": "eq", **SIDES}
    like = {**check, "name": "like", "operation": "like"}
    metric = {"type": "text_similarity", "evaluation_metric": "fuzzy_match", "name": "near"}
    config = {"type": "custom", "item_schema": {"type": "object"}}
    criteria = [check, like, {**metric, **SIDES, "pass_threshold": 0.9}]
    body = {"data_source_config": config, "testing_criteria": criteria}
    _, made = caller.post("/evals", body)
    labels: list[Any] = [["Paris", "Rome"], "Paris", '["Rome"]', [1, 2]]
    rows = [{"item": {"answer": "Rome", "label": label}} for label in labels]
    _, run = caller.post(f"/evals/{made['id']}/runs", run_body(rows))
    work()
    _, page = caller.get(f"/evals/{made['id']}/runs/{run['id']}/output_items")
    warned = [["warning" in result for result in one["results"]] for one in page["data"]]
    assert warned == [[True] * 3, [False] * 3, [False] * 3, [False] * 3]
    assert "match, includes and fuzzy_match take any" in page["data"][0]["results"][0]["warning"]


def test_a_scorer_that_nobody_knows_appears_as_a_type_that_clients_know(caller: Caller) -> None:
    """A name that is no scorer yet, one that is a model by now, and one beside a known one."""
    scorers = {"only": ["nonsense"], "both": ["match", "nonsense"], "several": ["a", "b/c", "d e"]}
    for name, names in scorers.items():
        name_evaluation(caller.actor, call_name=name, dataset_name="none", scorers=names)
    status, page = caller.get("/evals")
    assert status == 200
    for shown in page["data"]:
        names = [criterion["name"] for criterion in shown["testing_criteria"]]
        assert names == scorers[shown["name"]]
        for criterion in shown["testing_criteria"]:
            assert criterion["type"] == "string_check"
            shape = GRADERS[criterion["type"]](data=criterion)
            assert shape.is_valid(), shape.errors
        EvalRetrieveResponse.model_validate(shown, strict=True)
    stranger = page["data"][0]["testing_criteria"][0]
    assert (stranger["kind"], stranger["settings"]) == ("unknown_scorer", {})
    assert own_criterion(stranger) == ("unknown_scorer", {})
