"""Hostile bodies, odd lists and faults that only the core sees are refused."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.dialects.openai.caller import (
    EVAL,
    ROWS,
    STRING_CHECK,
    TEXT_SIMILARITY,
    Caller,
    chat_body,
    run_body,
    stored,
)


@pytest.mark.django_db
@pytest.mark.parametrize("body", [b"null", b"[]", b'"x"', b"5", b"true"])
@pytest.mark.parametrize("route", ["/evals", "/evals/{eval_id}", "/evals/{eval_id}/runs"])
def test_a_body_that_is_no_object_is_refused(route: str, body: bytes):
    caller = Caller()
    route = route.format(eval_id=caller.new_eval()["id"])
    before = stored()
    status, answer = caller.send(route, body)
    assert (status, answer["error"]["param"], answer["error"]["code"]) == (
        400,
        None,
        "invalid_type",
    )
    assert stored() == before


HOSTILE = {
    "no JSON": (b"{", ""),
    "blank": (b"  ", ""),
    "not UTF-8": (b'{"name": "\xff"}', ""),
    "NUL": (rb'{"name": "a\u0000b"}', "name"),
    "a NUL in a key": (rb'{"metadata": {"a\u0000": "b"}}', ""),
    "lone surrogate": (rb'{"metadata": {"a": "\ud800"}}', "metadata.a"),
    "NaN": (
        b'{"testing_criteria": [{"pass_threshold": NaN}]}',
        "testing_criteria[0].pass_threshold",
    ),
    "Infinity": (b'{"name": [-Infinity]}', "name[0]"),
    "too large": (b'{"name": 1e400}', "name"),
    "too deep": (b'{"name": ' + b"[" * 500 + b"]" * 500 + b"}", ""),
    "far too deep": (b"[" * 200_000, ""),
    "a very long number": (b'{"name": ' + b"9" * 5_000 + b"}", ""),
}


@pytest.mark.django_db
@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_database_keeps_is_refused_by_its_path(what: str):
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    before = stored()
    body, place = HOSTILE[what]
    for route in ("/evals", f"/evals/{eval_id}", f"/evals/{eval_id}/runs"):
        status, answer = caller.send(route, body)
        assert (status, answer["error"]["param"]) == (400, place or None), answer
    assert stored() == before


@pytest.mark.django_db
def test_an_unknown_field_of_a_body_is_refused_and_one_deeper_down_is_kept():
    caller = Caller()
    status, answer = caller.post("/evals", {**EVAL, "nmae": "x"})
    assert (status, answer["error"]["code"]) == (400, "unknown_parameter")
    assert answer["error"]["param"] == "nmae"
    criterion = {**STRING_CHECK, "shade": {"of": "grey"}}
    kept = caller.new_eval(testing_criteria=[criterion])["testing_criteria"][0]
    assert kept["shade"] == {"of": "grey"}


@pytest.mark.django_db
def test_what_only_the_core_knows_to_be_wrong_is_refused_by_the_wires_path():
    caller = Caller()
    config = EVAL["data_source_config"]
    refused = {
        "testing_criteria[0].evaluation_metric": {
            "testing_criteria": [{**TEXT_SIMILARITY, "evaluation_metric": "cosine"}]
        },
        "testing_criteria[1].input": {
            "testing_criteria": [STRING_CHECK, {**STRING_CHECK, "input": "{{ row.answer }}"}]
        },
        "data_source_config.item_schema": {
            "data_source_config": {**config, "item_schema": {"type": "string"}}
        },
    }
    before = stored()
    for place, fields in refused.items():
        status, answer = caller.post("/evals", {**EVAL, **fields})
        assert (status, answer["error"]["param"]) == (400, place), answer
    assert stored() == before


@pytest.mark.django_db
@pytest.mark.parametrize(
    "schema",
    [
        {"type": 5},
        {"pattern": "("},
        {"properties": {"a": {"pattern": "(?<name"}}},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "#/nowhere"},
        {"$schema": "http://example.com/mine"},
        {"type": ["string", "null"]},
        {"required": "a"},
    ],
)
def test_a_schema_that_is_none_is_refused(schema: dict[str, Any]):
    caller = Caller()
    config = {**EVAL["data_source_config"], "item_schema": schema}
    status, answer = caller.post("/evals", {**EVAL, "data_source_config": config})
    assert (status, answer["error"]["param"]) == (400, "data_source_config.item_schema"), answer


@pytest.mark.django_db
def test_a_run_that_cannot_be_is_refused_by_what_is_wrong_with_it():
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    closed = caller.new_eval(
        data_source_config={
            "type": "custom",
            "item_schema": {
                "type": "object",
                "properties": {"answer": {}, "label": {}},
                "additionalProperties": False,
            },
        }
    )["id"]
    prompt = {"type": "template", "template": [{"role": "user", "content": "{{ item.nothing }}"}]}
    nobody = Caller()
    _, foreign = nobody.upload(SimpleUploadedFile("a.jsonl", b'{"item": {}}\n'))
    _, gone = caller.upload(SimpleUploadedFile("a.jsonl", b'{"item": {}}\n'))
    caller.delete(f"/files/{gone['id']}")
    refused = [
        (
            eval_id,
            run_body([*ROWS, {"item": {"answer": 5}}]),
            "data_source.source.content[3]",
            "invalid_value",
        ),
        (eval_id, chat_body("gpt-none"), "data_source.model", "model_not_found"),
        (
            closed,
            chat_body(input_messages=prompt),
            "data_source.input_messages.template",
            "invalid_value",
        ),
        (
            closed,
            chat_body(input_messages={"type": "item_reference", "item_reference": "item.nothing"}),
            "data_source.input_messages.item_reference",
            "invalid_value",
        ),
        *(
            (
                eval_id,
                {"data_source": {"type": "jsonl", "source": {"type": "file_id", "id": file_id}}},
                "data_source.source.id",
                "invalid_value",
            )
            for file_id in (
                foreign["id"],
                gone["id"],
                "file-" + "0" * 22,
                "nonsense",
                "file-" + "z" * 22,
            )
        ),
    ]
    before = stored()
    for where, body, place, code in refused:
        status, answer = caller.post(f"/evals/{where}/runs", body)
        assert (status, answer["error"]["param"]) == (400, place), answer
        assert answer["error"]["code"] == code
    assert stored() == before


@pytest.mark.django_db
@pytest.mark.parametrize("route", ["/evals", "/evals/{eval_id}/runs", "/files"])
def test_a_list_refuses_what_it_cannot_be_asked(route: str):
    caller = Caller()
    route = route.format(eval_id=caller.new_eval()["id"])
    asked = [
        ("limit", "0", "integer_below_min_value"),
        ("limit", "-1", "integer_below_min_value"),
        ("limit", "10001", "integer_above_max_value"),
        ("limit", "ten", "invalid_type"),
        ("limit", "9" * 3_000, "integer_above_max_value"),
        ("order", "up", "invalid_value"),
        ("after", "eval_" + "0" * 32, "invalid_value"),
        ("after", "\0", "invalid_value"),
    ]
    asked += [("order_by", "name", "invalid_value")] if route == "/evals" else []
    asked += [("status", "done", "invalid_value")] if route.endswith("runs") else []
    asked += [("purpose", "fun", "invalid_value")] if route == "/files" else []
    for name, value, code in asked:
        status, answer = caller.get(route, **{name: value})
        assert (status, answer["error"]["param"]) == (400, name), answer
        assert answer["error"]["code"] == code
