"""Output items through the wire: what came of each row, in the order of the rows."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from apps.evaluations.models import Result, Run, Shard, key_of
from apps.strict_json import dump_json
from evalplatform.dialects.openai.evals.output_items import OutputItemSerializer, sample_shown
from evalplatform.dialects.openai.ids import EVAL_ID, RUN_ID
from tests.dialects.openai.caller import (
    STRING_CHECK,
    TEXT_SIMILARITY,
    Caller,
    chat_body,
    run_body,
    work,
)
from tests.factories import make_actor

NO_SAMPLE = {
    "input": [],
    "output": [],
    "finish_reason": "",
    "model": "",
    "usage": {"total_tokens": 0, "completion_tokens": 0, "prompt_tokens": 0, "cached_tokens": 0},
    "error": None,
    "temperature": 1.0,
    "top_p": 1.0,
    "seed": None,
    "max_completion_tokens": None,
}


def finished(caller: Caller, body: dict[str, Any], **fields: Any) -> tuple[str, dict[str, Any]]:
    """Return the path to a run's items, and its eval."""
    created = caller.new_eval(**fields)
    run = caller.new_run(created["id"], body)
    work()
    return f"/evals/{created['id']}/runs/{run['id']}/output_items", created


def with_results(caller: Caller, states: list[str], row_bytes: int = 10) -> str:
    """Make a run with these results, stored without the engine; return the path to its items."""
    created = caller.new_eval()
    rows = [{"item": {"answer": "x" * row_bytes, "label": str(n)}} for n in range(len(states))]
    shown = caller.new_run(created["id"], run_body(rows))
    run = Run.objects.get(pk=RUN_ID.to_internal_value(shown["id"]))
    Run.objects.filter(pk=run.pk).update(state=Run.State.COMPLETED)
    assert run.source_file is not None
    lines, start = [len(dump_json(row)) + 1 for row in rows], 0
    for number, first in enumerate(range(0, len(states), 1_000)):
        part = lines[first : first + 1_000]
        Shard.objects.create(
            account=run.account,
            run=run,
            number=number,
            first_row=first,
            row_count=len(part),
            start=start,
            stop=start + sum(part),
        )
        start += sum(part)
    assert start == run.source_file.byte_count
    results = [
        Result(
            id=key_of(run.number, index),
            stored_at=1_790_000_000,
            state=state,
            verdicts={"passed": "p", "failed": "f"}.get(state, ""),
        )
        for index, state in enumerate(states)
    ]
    Result.objects.bulk_create(results, batch_size=500)
    return f"/evals/{created['id']}/runs/{shown['id']}/output_items"


@pytest.mark.django_db(transaction=True)
def test_the_items_of_a_graded_run():
    caller = Caller()
    where, created = finished(caller, run_body())
    _, page = caller.get(where)
    passed, failed, errored = page["data"]
    assert passed.keys() == OutputItemSerializer().fields.keys()
    assert [item["datasource_item_id"] for item in page["data"]] == [0, 1, 2]
    assert [item["status"] for item in page["data"]] == ["pass", "fail", "error"]
    assert passed["object"] == "eval.run.output_item"
    assert passed["eval_id"] == created["id"]
    assert passed["run_id"] in where
    assert passed["datasource_item"] == {"answer": "billing", "label": "billing"}
    name = created["testing_criteria"][0]["id"]
    assert passed["results"] == [
        {"name": name, "type": "string_check", "sample": None, "score": 1.0, "passed": True}
    ]
    assert failed["results"] == [
        {"name": name, "type": "string_check", "sample": None, "score": 0.0, "passed": False}
    ]
    (result,) = errored["results"]
    assert (result["name"], result["score"], result["passed"]) == (name, 0.0, False)
    assert result["error"]["code"] == "invalid_variable_error"
    assert [item["sample"] for item in page["data"]] == [NO_SAMPLE] * 3
    assert caller.get(f"{where}/{failed['id']}") == (200, failed)


@pytest.mark.django_db(transaction=True)
def test_the_sample_of_a_sampled_row():
    caller = Caller()
    echoed = {**STRING_CHECK, "input": "{{ sample.output_text }}"}
    params = {"temperature": 0.5, "seed": 7, "max_completions_tokens": 9}
    body = chat_body(sampling_params=params)
    where, _ = finished(caller, body, testing_criteria=[echoed])
    sample = caller.get(where)[1]["data"][0]["sample"]
    assert sample["input"] == [{"role": "user", "content": "billing"}]
    assert sample["output"][0].items() >= {"role": "assistant", "content": "billing"}.items()
    assert (sample["model"], sample["finish_reason"]) == ("builtin/echo", "stop")
    assert (sample["temperature"], sample["top_p"], sample["seed"]) == (0.5, 1.0, 7)
    assert (sample["max_completion_tokens"], sample["error"]) == (9, None)


@pytest.mark.django_db(transaction=True)
def test_a_row_that_could_not_be_sampled_says_why_in_its_sample_and_in_each_result():
    caller = Caller()
    prompt = {
        "type": "template",
        "template": [{"role": "user", "content": "{{ item.answer }}"}],
    }
    criteria = [{**STRING_CHECK, "input": "{{ sample.output_text }}", "name": n} for n in "ab"]
    where, created = finished(caller, chat_body(input_messages=prompt), testing_criteria=criteria)
    item = caller.get(where)[1]["data"][2]
    assert item["status"] == "error"
    assert item["sample"]["error"]["code"] == "invalid_prompt"
    assert item["sample"]["output"] == []
    names = [criterion["id"] for criterion in created["testing_criteria"]]
    assert [result["name"] for result in item["results"]] == names
    assert all(not result["passed"] and result["error"]["code"] for result in item["results"])


@pytest.mark.django_db(transaction=True)
def test_a_recorded_completion_is_shown_as_the_sample():
    caller = Caller()
    message = {"role": "assistant", "content": "billing", "refusal": "no"}
    completion = {
        "id": "chatcmpl-1",
        "model": "some-model",
        "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1},
        },
    }
    rows = [
        {"item": {"label": "billing"}, "sample": completion},
        {"item": {"label": "billing"}, "sample": {"output_text": "billing"}},
        {"item": {"label": "billing"}, "sample": {"choices": "odd", "usage": 3, "model": None}},
        {
            "item": {"label": "billing"},
            "sample": {"choices": [None], "usage": {"total_tokens": "x"}},
        },
    ]
    echoed = {**STRING_CHECK, "input": "{{ sample.output_text }}"}
    where, _ = finished(caller, run_body(rows), testing_criteria=[echoed])
    _, page = caller.get(where)
    assert [item["status"] for item in page["data"]] == ["pass", "pass", "error", "error"]
    whole, bare, odd, empty = (item["sample"] for item in page["data"])
    assert whole["output"] == [message]
    assert (whole["model"], whole["finish_reason"]) == ("some-model", "length")
    assert whole["usage"] == {
        "total_tokens": 5,
        "completion_tokens": 2,
        "prompt_tokens": 3,
        "cached_tokens": 1,
    }
    assert bare["output"] == [{"role": "assistant", "content": "billing"}]
    assert (odd, empty) == (NO_SAMPLE, NO_SAMPLE)


@pytest.mark.django_db(transaction=True)
def test_numbers_of_any_length_come_back_exactly():
    caller = Caller()
    where, _ = finished(caller, run_body([{"item": {"answer": "a", "label": "a", "n": 2**80}}]))
    assert caller.get(where)[1]["data"][0]["datasource_item"]["n"] == 2**80


def test_a_judges_exchange_has_the_keys_of_a_sample():
    exchange = {
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look: "},
                    {"type": "image_url", "image_url": {"url": "http://a/b.png"}},
                ],
            }
        ],
        "params": {"seed": 1},
        "model": "judge",
        "choices": [{"message": {"role": "assistant", "content": '{"result": "good"}'}}],
        "usage": {"total_tokens": 5, "completion_tokens": 2, "prompt_tokens": 3},
    }
    shown = sample_shown(exchange, exchange, "", exchange["params"], None)
    assert shown.keys() == NO_SAMPLE.keys()
    assert shown["input"] == [{"role": "user", "content": "look: <image>http://a/b.png</image>"}]
    assert shown["output"][0]["content"] == '{"result": "good"}'
    assert (shown["seed"], shown["usage"]["total_tokens"]) == (1, 5)


@pytest.mark.django_db
@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_items_come_in_row_order_and_desc_is_its_mirror(limit: int):
    caller = Caller()
    where = with_results(caller, ["passed", "failed", "errored", "failed", "passed"])

    def walk(**query: str) -> list[int]:
        found: list[dict[str, Any]] = []
        while True:
            after = {"after": found[-1]["id"]} if found else {}
            _, page = caller.get(where, limit=limit, **query, **after)
            found += page["data"]
            if not page["has_more"]:
                return [item["datasource_item_id"] for item in found]

    assert walk() == [0, 1, 2, 3, 4]
    assert walk(order="desc") == [4, 3, 2, 1, 0]
    assert walk(status="fail") == [1, 3]
    assert walk(status="pass", order="desc") == [4, 0]


@pytest.mark.django_db
def test_a_page_of_items_goes_on_after_one_that_the_filter_leaves_out():
    caller = Caller()
    where = with_results(caller, ["failed", "errored", "failed"])
    errored = caller.get(where)[1]["data"][1]
    _, page = caller.get(where, status="fail", after=errored["id"])
    assert [item["datasource_item_id"] for item in page["data"]] == [2]


@pytest.mark.django_db
def test_items_that_nobody_has_judged_are_listed_and_counted_as_failed():
    caller = Caller()
    where = with_results(caller, ["unjudged", "errored", "unjudged"])
    _, page = caller.get(where)
    assert [item["status"] for item in page["data"]] == ["fail", "error", "fail"]
    _, page = caller.get(where, status="fail")
    assert [item["datasource_item_id"] for item in page["data"]] == [0, 2]
    assert caller.get(where, status="pass")[1]["data"] == []
    run = Run.objects.get()
    Run.objects.update(state=Run.State.COMPLETED, unjudged_count=2, errored_count=1)
    _, shown = caller.get(f"/evals/{EVAL_ID.of(run.evaluation)}/runs/{RUN_ID.of(run)}")
    assert shown["result_counts"] == {"total": 3, "errored": 1, "failed": 2, "passed": 0}


@pytest.mark.django_db
def test_what_a_list_of_items_cannot_be_asked():
    caller = Caller()
    where = with_results(caller, ["passed"])
    other = with_results(caller, ["passed"])
    foreign = caller.get(other)[1]["data"][0]["id"]
    for name, value in (("status", "error"), ("limit", "101"), ("after", foreign), ("order", "x")):
        status, answer = caller.get(where, **{name: value})
        assert (status, answer["error"]["param"]) == (400, name)
    for name in (foreign, "outputitem_" + "0" * 32, "x"):
        assert caller.get(f"{where}/{name}")[0] == 404


@pytest.mark.django_db
def test_another_accounts_items_are_not_found():
    where = with_results(Caller(make_actor()), ["passed"])
    caller = Caller()
    assert caller.get(where)[0] == 404
    assert caller.get(f"{where}/outputitem_{'0' * 32}")[0] == 404


@pytest.mark.django_db
def test_a_page_of_a_hundred_takes_four_queries(django_assert_num_queries):
    caller = Caller()
    where = with_results(caller, ["passed", "failed"] * 60)
    first = caller.get(where, limit=10)[1]["data"][-1]["id"]
    # the key, the run, the results, their rows; what never changes was read with the first page
    with django_assert_num_queries(4):
        _, page = caller.get(where, limit=100, after=first)
    assert len(page["data"]) == 100


@pytest.mark.django_db(transaction=True)
def test_a_score_that_counts_nothing_says_so_and_so_does_its_copy(tmp_path: Path):
    caller = Caller()
    near = {**TEXT_SIMILARITY, "evaluation_metric": "rouge_l"}
    rows = [{"item": {"answer": text, "label": text}} for text in ("Париж", "Paris")]
    run, items = caller.over(run_body(rows), near)
    first, second = (item["results"][0] for item in items)
    assert (first["score"], first["passed"], "error" in first) == (0.0, False, False)
    assert "Париж" in first["warning"]
    assert (second["score"], "warning" in second) == (1.0, False)
    to_folder = ("--format", "folder", "--output", str(tmp_path / "run"))
    call_command("export_run", run["id"], *to_folder, stdout=StringIO())
    there = Caller()
    assert there.actor.account is not None
    account = ("--account", there.actor.account.name)
    call_command("import_openai_export", str(tmp_path / "run"), *account, stdout=StringIO())
    _, listed = there.get(f"/evals/{run['eval_id']}/runs/{run['id']}/output_items")
    assert listed["data"] == items
