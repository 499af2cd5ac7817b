"""Evals through the wire: what is sent comes back as the contract says."""

import json
from typing import Any

import pytest

from apps.evaluations.models import Evaluation, Run
from apps.evaluations.services.criteria import change_criteria, read_criteria
from apps.evaluations.services.regrades import regrade_run
from evalplatform.dialects.openai.evals.evals import EvalSerializer
from tests.dialects.openai.caller import EVAL, STRING_CHECK, Caller, work
from tests.factories import make_actor

pytestmark = pytest.mark.django_db
UNKNOWN = "eval_" + "0" * 32


def test_an_eval_comes_back_as_it_was_sent():
    status, shown = Caller().post("/evals", EVAL)
    assert status == 201
    assert shown.keys() == EvalSerializer().fields.keys()
    assert (shown["object"], shown["name"]) == ("eval", "Tickets")
    assert shown["metadata"] == {"team": "support"}
    assert isinstance(shown["created_at"], int)
    (criterion,) = shown["testing_criteria"]
    assert criterion.items() >= STRING_CHECK.items()
    assert criterion["id"].startswith("same-")
    assert len(criterion["id"]) == len("same-") + 36


def test_the_config_comes_back_as_the_schema_of_a_row():
    caller = Caller()
    item = EVAL["data_source_config"]["item_schema"]
    config = caller.new_eval()["data_source_config"]
    assert config.keys() == {"type", "schema", "max_items"}
    assert config["schema"]["properties"]["item"] == item
    assert config["schema"]["required"] == ["item", "sample"]
    assert config["schema"]["properties"]["sample"]["required"] == ["model", "choices"]
    plain = {"type": "custom", "item_schema": item}
    criteria = [{**STRING_CHECK, "input": "{{ item.answer }}"}]
    shown = caller.new_eval(data_source_config=plain, testing_criteria=criteria)
    assert shown["data_source_config"]["schema"] == {
        "type": "object",
        "properties": {"item": item},
        "required": ["item"],
    }


@pytest.mark.parametrize("kind", ["logs", "stored_completions"])
def test_a_config_of_stored_answers_keeps_its_filter(kind: str):
    config = {"type": kind, "metadata": {"usecase": "chat"}}
    shown = Caller().new_eval(data_source_config=config)["data_source_config"]
    assert (shown["type"], shown["metadata"]) == (kind, {"usecase": "chat"})
    assert shown["schema"]["properties"]["item"] == {"type": "object"}
    assert shown["schema"]["required"] == ["item", "sample"]


@pytest.mark.parametrize("schema", [{"$ref": "#/$defs/T", "$defs": {"T": {"type": "object"}}}, {}])
def test_a_schema_keeps_its_keys_and_their_order(schema: dict[str, Any]):
    caller = Caller()
    config = {"type": "custom", "item_schema": schema, "include_sample_schema": True}
    shown = caller.new_eval(data_source_config=config)["data_source_config"]["schema"]
    assert list(shown["properties"]["item"].items()) == list(schema.items())


@pytest.mark.parametrize("fields", [{"metadata": None}, {}])
def test_no_metadata_is_an_empty_object(fields: dict[str, Any]):
    body = {name: EVAL[name] for name in ("data_source_config", "testing_criteria")}
    status, shown = Caller().post("/evals", {**body, **fields})
    assert (status, shown["metadata"]) == (201, {})
    assert shown["name"]


def test_metadata_takes_sixteen_pairs_of_the_longest_keys_and_values():
    pairs = {f"{number:02}" + "k" * 62: "v" * 512 for number in range(16)}
    assert Caller().new_eval(metadata=pairs)["metadata"] == pairs


def test_a_longer_key_is_refused():
    status, answer = Caller().post("/evals", {**EVAL, "metadata": {"k" * 65: "v"}})
    assert (status, answer["error"]["param"]) == (400, "metadata")
    assert answer["error"]["code"] == "string_above_max_length"


def test_messages_of_a_judge_come_back_with_their_type_and_their_content_as_sent():
    messages = [
        {"role": "system", "content": "Judge."},
        {"role": "user", "content": {"type": "input_text", "text": "{{ item.answer }}"}},
        {"role": "user", "content": ["a", {"type": "input_text", "text": "b"}]},
    ]
    judge = {
        "type": "label_model",
        "name": "judge",
        "model": "builtin/echo",
        "input": messages,
        "labels": ["good", "bad"],
        "passing_labels": ["good"],
    }
    (shown,) = Caller().new_eval(testing_criteria=[judge])["testing_criteria"]
    assert shown["input"] == [{**message, "type": "message"} for message in messages]
    assert (shown["labels"], shown["passing_labels"]) == (["good", "bad"], ["good"])


def test_two_criteria_may_share_a_name():
    shown = Caller().new_eval(testing_criteria=[STRING_CHECK, STRING_CHECK])["testing_criteria"]
    assert shown[0]["name"] == shown[1]["name"]
    assert shown[0]["id"] != shown[1]["id"]


def test_an_eval_is_read_as_it_was_created():
    caller = Caller()
    created = caller.new_eval()
    assert caller.get(f"/evals/{created['id']}") == (200, created)
    assert caller.get("/evals")[1]["data"] == [created]


def test_an_update_changes_what_it_names_and_replaces_the_metadata_as_a_whole():
    caller = Caller()
    created = caller.new_eval(metadata={"a": "1", "b": "2"})
    where = f"/evals/{created['id']}"
    status, renamed = caller.post(where, {"name": "Better"})
    assert (status, renamed["name"], renamed["metadata"]) == (200, "Better", {"a": "1", "b": "2"})
    _, changed = caller.post(where, {"metadata": {"c": "3"}})
    assert (changed["name"], changed["metadata"]) == ("Better", {"c": "3"})
    _, cleared = caller.post(where, {"metadata": None})
    assert cleared["metadata"] == {}
    assert caller.get(where)[1] == cleared


@pytest.mark.parametrize(
    "content_type", ["application/json", "", "application/x-www-form-urlencoded"]
)
def test_an_update_without_a_body_changes_nothing(content_type: str):
    caller = Caller()
    created = caller.new_eval()
    response = caller.client.post(f"/v1/evals/{created['id']}", b"", content_type=content_type)
    assert (response.status_code, response.json()) == (200, created)


def test_a_deleted_eval_and_all_below_it_are_gone():
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    run_id = caller.new_run(eval_id)["id"]
    answer = {"object": "eval.deleted", "deleted": True, "eval_id": eval_id}
    assert caller.delete(f"/evals/{eval_id}") == (200, answer)
    assert Run.objects.get().state == Run.State.CANCELED
    below = ["", "/runs", f"/runs/{run_id}", f"/runs/{run_id}/output_items"]
    assert [caller.get(f"/evals/{eval_id}{path}")[0] for path in below] == [404] * 4
    assert caller.delete(f"/evals/{eval_id}")[0] == 404
    assert caller.get("/evals")[1]["data"] == []


@pytest.mark.parametrize(
    "name",
    [UNKNOWN, "eval_1", "eval_" + "G" * 32, "x", "eval_%00", "a%2Fb", "%ff", "evalrun_" + "0" * 32],
)
def test_an_unknown_or_malformed_id_is_not_found(name: str):
    caller = Caller()
    # A POST by another name is for the dialect that shares the path.
    updated = [caller.post(f"/evals/{name}", {"name": "x"})] if name.startswith("eval_") else []
    for answer in (
        *updated,
        caller.get(f"/evals/{name}"),
        caller.delete(f"/evals/{name}"),
        caller.get(f"/evals/{name}/runs"),
        caller.post(f"/evals/{name}/runs", {}),
    ):
        assert (answer[0], answer[1]["error"]["code"]) == (404, "not_found")


def test_another_accounts_eval_is_not_found():
    theirs = Caller(make_actor()).new_eval()["id"]
    caller = Caller()
    answers = [
        caller.get(f"/evals/{theirs}"),
        caller.post(f"/evals/{theirs}", {"name": "mine"}),
        caller.delete(f"/evals/{theirs}"),
        caller.post(f"/evals/{theirs}/runs", {}),
    ]
    assert [status for status, _ in answers] == [404] * 4
    assert Evaluation.objects.get().name == "Tickets"


@pytest.mark.django_db(transaction=True)
def test_an_eval_shows_the_criteria_in_force_and_its_runs_those_they_ran_with():
    caller = Caller()
    created = caller.new_eval()
    first = caller.new_run(created["id"])
    evaluation = Evaluation.objects.get()
    never = {**STRING_CHECK, "name": "never", "reference": "never"}
    change_criteria(caller.actor, evaluation, read_criteria(json.dumps([never])))
    second = caller.new_run(created["id"])
    work()
    _, shown = caller.get(f"/evals/{created['id']}")
    (criterion,) = shown["testing_criteria"]
    assert criterion.items() >= never.items()
    listed = caller.get("/evals")[1]["data"]
    assert [one["testing_criteria"] for one in listed] == [[criterion]]
    (before,) = created["testing_criteria"]
    for run, key in ((first, before["id"]), (second, criterion["id"])):
        path = f"/evals/{created['id']}/runs/{run['id']}"
        (line,) = caller.get(path)[1]["per_testing_criteria_results"]
        assert line["testing_criteria"] == key
        items = caller.get(f"{path}/output_items")[1]["data"]
        assert {result["name"] for item in items for result in item["results"]} == {key}
    _, answered = caller.get(f"/evals/{created['id']}/runs/{first['id']}")
    again = regrade_run(caller.actor, Run.objects.get(criteria_version=1))
    work()
    _, graded = caller.get(f"/evals/{created['id']}/runs/evalrun_{again.pk.hex}")
    assert graded["data_source"] == answered["data_source"]
    _, later = caller.get(f"/evals/{created['id']}/runs/{second['id']}")
    assert graded["result_counts"] == later["result_counts"] != answered["result_counts"]
