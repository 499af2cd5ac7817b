"""Judges that answer anything but a verdict: errored with the reason, and the run goes on."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from tests.dialects.openai.caller import STRING_CHECK, Caller, run_body, work
from tests.factories import make_endpoint
from tests.model_server import ModelServer

pytestmark = pytest.mark.django_db(transaction=True)

SERVER, REFUSAL, PARSE = (
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
)
ROWS = [{"item": {"answer": f"billing {number}", "label": "billing 0"}} for number in range(3)]
INPUT = [{"role": "user", "content": "Judge {{ item.answer }}"}]

# What a judge answers -> the code of the error and a word of its message.
CUT = 'choice:{"finish_reason": "length", "message": {"content": "I think that"}}'
FILTERED = 'choice:{"finish_reason": "content_filter", "message": {"content": null}}'
NO_VERDICT = {
    "answer:It is good, I should say.": (PARSE, "It is good"),
    "answer:Score: 0.9": (PARSE, "Score: 0.9"),
    "answer:9/10": (PARSE, "9/10"),
    "empty": (PARSE, "empty"),
    "null": (PARSE, "empty"),
    'answer:<think>{"result": 4}</think>': (PARSE, "empty"),
    'answer:{"steps": [], "result": "good"': (PARSE, "breaks off"),
    'answer:["good"]': (PARSE, "no JSON object"),
    'answer:{"steps": []}': (PARSE, "no result"),
    'answer:{"result": NaN}': (PARSE, "NaN"),
    'answer:{"result": 1e400}': (PARSE, "Infinity"),
    'answer:{"result": null}': (PARSE, "null"),
    'answer:{"result": "N/A"}': (PARSE, "N/A"),
    "refusal": (REFUSAL, "I cannot help with that."),
    CUT: ("length", "limit of tokens"),
    FILTERED: ("content_filter", "content filter"),
    "fail-500": (SERVER, "500"),
    "fail-401": (SERVER, "401"),
    "fail-400": (SERVER, "400"),
    "garbage": (SERVER, "not JSON"),
    "no-choices": (SERVER, "no choice"),
}
NO_LABEL = {
    'answer:{"result": "perhaps"}': (PARSE, "perhaps"),
    'answer:{"result": "not good"}': (PARSE, "not good"),
    'answer:{"result": 1}': (PARSE, "1"),
}
# contract: openai section 13.5: clamped to the range, which is 1 to 7 here.
SCORES = {
    'answer:{"result": 4}': 4.0,
    'answer:{"result": 7.5}': 7.0,
    'answer:{"result": 1e300}': 7.0,
    'answer:{"result": -3}': 1.0,
    'answer:{"result": 0}': 1.0,
    'answer:{"result": "6"}': 6.0,
    'answer:```json\n{"result": 6}\n```': 6.0,
    'answer:Draft {"result": 2}, verdict {"result": 6}.': 6.0,
    "answer:6": 6.0,
}
CLAMPED = {'answer:{"result": 7.5}': 7.5, 'answer:{"result": 1e300}': 1e300}
CLAMPED |= {'answer:{"result": -3}': -3.0, 'answer:{"result": 0}': 0.0}


def label_model(model: str) -> dict[str, Any]:
    labels = {"labels": ["good", "bad"], "passing_labels": ["good"]}
    return {"type": "label_model", "name": model, "model": model, "input": INPUT, **labels}


def score_model(model: str) -> dict[str, Any]:
    kept = {"type": "score_model", "name": model, "model": model, "input": INPUT}
    return {**kept, "range": [1, 7], "pass_threshold": 4}


@pytest.fixture
def caller(server: ModelServer) -> Caller:
    caller = Caller()
    make_endpoint(caller.actor, server.base_url, models=[*{*NO_VERDICT, *NO_LABEL, *SCORES}])
    return caller


def judged(caller: Caller, criteria: list[dict[str, Any]]) -> tuple[Any, list[Any]]:
    """Return the finished run of an eval with these criteria, and its items."""
    made = caller.new_eval(testing_criteria=criteria)
    run = caller.new_run(made["id"], run_body(ROWS))
    work()
    where = f"/evals/{made['id']}/runs/{run['id']}"
    _, shown = caller.get(where)
    assert shown["status"] == "completed"
    _, listed = caller.get(f"{where}/output_items")
    return shown, listed["data"]


def calls_of(run: Any) -> dict[str, int]:
    return {one["model_name"]: one["invocation_count"] for one in run["per_model_usage"]}


def test_a_judge_without_a_verdict_is_errored_by_the_reason(
    caller: Caller, server: ModelServer
) -> None:
    expected = [*NO_VERDICT.values(), *NO_VERDICT.values(), *NO_LABEL.values()]
    judges = [
        *map(score_model, NO_VERDICT),
        *map(label_model, NO_VERDICT),
        *map(label_model, NO_LABEL),
    ]
    run, items = judged(caller, [*judges, STRING_CHECK])
    assert run["result_counts"] == {"total": 3, "errored": 3, "failed": 0, "passed": 0}
    *lines, plain = run["per_testing_criteria_results"]
    assert [(line["passed"], line["failed"], line["errored"]) for line in lines] == [
        (0, 0, 3)
    ] * len(judges)
    assert (plain["passed"], plain["failed"], plain["errored"]) == (1, 2, 0)
    assert calls_of(run) == server.counts()["models"]
    for item in items:
        assert item["status"] == "error"
        *verdicts, same = item["results"]
        for judge, (code, word), verdict in zip(judges, expected, verdicts, strict=True):
            told = (judge["type"], judge["model"], verdict)
            assert (verdict["score"], verdict["passed"]) == (0.0, False), told
            assert verdict["error"]["code"] == code, told
            assert word in verdict["error"]["message"], told
            # A judge whose reply is not read is told besides how to answer.
            [asked] = verdict["sample"]["input"]
            assert asked["content"].startswith(f"Judge {item['datasource_item']['answer']}"), told
            if judge["model"] in {CUT, "answer:9/10"}:
                [said] = verdict["sample"]["output"]
                assert said["content"] in judge["model"]
        assert "error" not in same
        assert same["passed"] is (item["datasource_item_id"] == 0)


def test_a_number_outside_the_range_is_clamped_and_its_result_says_so(
    caller: Caller, server: ModelServer
) -> None:
    run, items = judged(caller, [*map(score_model, SCORES)])
    assert run["result_counts"] == {"total": 3, "errored": 0, "failed": 3, "passed": 0}
    assert calls_of(run) == server.counts()["models"] == dict.fromkeys(SCORES, 3)
    for item in items:
        assert item["status"] == "fail"
        told = {
            model: (verdict["score"], verdict["passed"])
            for model, verdict in zip(SCORES, item["results"], strict=True)
        }
        assert told == {model: (score, score >= 4) for model, score in SCORES.items()}
        given = {
            model: verdict["clamped_from"]
            for model, verdict in zip(SCORES, item["results"], strict=True)
            if "clamped_from" in verdict
        }
        assert given == CLAMPED
    lines = run["per_testing_criteria_results"]
    assert [line["passed"] for line in lines] == [3 * (score >= 4) for score in SCORES.values()]


def test_what_judges_said_and_failed_to_say_goes_out_and_comes_in_again(
    caller: Caller, tmp_path: Path
) -> None:
    models = ("refusal", "fail-401", 'answer:{"steps": []}')
    criteria = [*map(label_model, models), score_model('answer:{"result": 7.5}'), STRING_CHECK]
    before, items = judged(caller, criteria)
    saved = tmp_path / "run"
    to_folder = ("--format", "folder", "--output", str(saved))
    call_command("export_run", before["id"], *to_folder, stdout=StringIO())
    there = Caller()
    assert there.actor.account is not None
    account = ("--account", there.actor.account.name)
    call_command("import_openai_export", str(saved), *account, stdout=StringIO())
    where = f"/evals/{before['eval_id']}/runs/{before['id']}"
    _, after = there.get(where)
    assert after == {**before, "report_url": after["report_url"]}
    _, listed = there.get(f"{where}/output_items")
    assert listed["data"] == items
