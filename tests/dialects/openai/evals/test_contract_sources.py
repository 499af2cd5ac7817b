"""Section 8 of docs/contracts/openai.md, row by row: what runs are made over."""

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.evaluations.models import Run
from evalplatform.dialects.openai.ids import RUN_ID
from tests.dialects.openai.caller import (
    ECHOED,
    NOTHING,
    ROWS,
    STRING_CHECK,
    ZERO,
    Caller,
    run_body,
    stored,
)

pytestmark = pytest.mark.django_db(transaction=True)


INLINE = {"type": "file_content", "content": ROWS}
PROMPT = {
    "type": "template",
    "template": [{"role": "user", "content": "{{ item.label }}", "type": "message"}],
}
REFERENCE = {"type": "item_reference", "item_reference": "item.input"}
ASKED = {"model": "builtin/echo", "input_messages": PROMPT}
CHAT: dict[str, Any] = {"type": "completions", "source": INLINE, **ASKED}
FLAT: dict[str, Any] = {**CHAT, "type": "responses"}
STORED: dict[str, Any] = {"type": "completions", "source": {"type": "stored_completions"}}
RESPONSES: dict[str, Any] = {"type": "responses", "source": {"type": "responses"}}
SCHEMA = {"name": "n", "schema": {"type": "object"}, "strict": True}
TOOL = {"name": "f", "parameters": {"type": "object"}}
TOOL_FLAT = {"type": "function", **TOOL}
NO_FILE = "file-" + "0" * 22
ALL_OF_THEM = {
    **{"metadata": {"a": "b"}, "model": "m", "created_after": 0, "created_before": 1, "limit": 1},
}
ALL_OF_RESPONSES: dict[str, Any] = {
    **ALL_OF_THEM,
    "instructions_search": "x",
    "reasoning_effort": "high",
    "temperature": 0.5,
    "top_p": 1,
    "users": ["u"],
    "tools": ["f"],
}


@pytest.fixture
def caller() -> Caller:
    return Caller()


LONG = {str(number): "v" for number in range(17)}
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
PARAMS: list[dict[str, Any]] = [
    *({"reasoning_effort": effort} for effort in EFFORTS),
    {"temperature": 0, "top_p": 0, "seed": 0, "max_completion_tokens": 1},
    {"temperature": 2, "top_p": 1, "seed": -1, "max_completions_tokens": 1},
    {"max_completion_tokens": 1, "max_completions_tokens": 2},
    dict.fromkeys(
        (
            *("reasoning_effort", "temperature", "top_p", "seed", "tools"),
            *("max_completion_tokens", "max_completions_tokens"),
        )
    ),
    {"something": {"else": [1]}},
]
FORMATS: list[dict[str, Any]] = [
    {"type": "text"},
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": SCHEMA},
]
TAKEN: list[dict[str, Any]] = [
    {"type": "jsonl", "source": {"type": "file_content", "content": []}},
    {
        "type": "jsonl",
        "source": {"type": "file_content", "content": [{"item": {}, "sample": {"odd": 1}}]},
    },
    *({**CHAT, "sampling_params": params} for params in PARAMS),
    *({**CHAT, "sampling_params": {"response_format": one}} for one in [None, *FORMATS]),
    {**CHAT, "sampling_params": {"tools": [{"type": "function", "function": TOOL}] * 128}},
    {**CHAT, "input_messages": REFERENCE},
    {**CHAT, "input_messages": {**REFERENCE, "item_reference": "item.name"}},
    {**CHAT, "input_messages": {**REFERENCE, "item_reference": "item.some.path[0].here"}},
    {**STORED, "source": {**STORED["source"], **ALL_OF_THEM}},
    {**STORED, "source": {**STORED["source"], **dict.fromkeys(ALL_OF_THEM)}},
    {**STORED, **ASKED},
    *({**FLAT, "sampling_params": params} for params in PARAMS),
    *(
        {**FLAT, "sampling_params": {"text": text}}
        for text in (
            None,
            {},
            {"format": {"type": "text"}},
            {"format": {"type": "json_object"}},
            {"format": {"type": "json_schema", **SCHEMA}},
        )
    ),
    {**FLAT, "sampling_params": {"tools": [TOOL_FLAT] * 128}},
    {**FLAT, "input_messages": REFERENCE},
    {**RESPONSES, "source": {**RESPONSES["source"], **ALL_OF_RESPONSES}},
    {**RESPONSES, "source": {**RESPONSES["source"], **dict.fromkeys(ALL_OF_RESPONSES)}},
    {**RESPONSES, **ASKED},
]


def test_every_source_is_taken_and_echoed_as_it_was_sent(caller: Caller) -> None:
    eval_id = caller.new_eval()["id"]
    for sent in TAKEN:
        shown = caller.new_run(eval_id, {"data_source": sent})["data_source"]
        assert shown == ({**NOTHING, **sent} if sent["type"] == "completions" else sent)
    described: list[dict[str, Any]] = [
        {"name": "ü" * 256},
        {"metadata": {"k" * 64: "v" * 512}},
        {"metadata": {}},
    ]
    for fields in described:
        assert caller.new_run(eval_id, run_body(**fields)).items() >= fields.items()
    bare = caller.new_run(eval_id, run_body(metadata=None))
    assert (bool(bare["name"]), bare["metadata"]) == (True, {})


def with_row(row: Any) -> dict[str, Any]:
    source = {"type": "file_content", "content": [ROWS[0], row]}
    return {"type": "jsonl", "source": source}


def without(sent: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in sent.items() if key != name}


MISSING, KIND, VALUE = "missing_required_parameter", "invalid_type", "invalid_value"
REFUSED: list[tuple[Any, str, str]] = [
    (None, "", KIND),
    ({}, ".type", MISSING),
    ({"type": "csv"}, ".type", VALUE),
    ({"type": "jsonl"}, ".source", MISSING),
    ({"type": "jsonl", "source": {}}, ".source.type", MISSING),
    ({"type": "jsonl", "source": {"type": "file_content"}}, ".source.content", MISSING),
    ({"type": "jsonl", "source": {"type": "file_content", "content": {}}}, ".source.content", KIND),
    (with_row("x"), ".source.content[1]", KIND),
    (with_row({"answer": "x"}), ".source.content[1].item", MISSING),
    (with_row({"item": []}), ".source.content[1].item", KIND),
    (with_row({"item": {}, "sample": "x"}), ".source.content[1].sample", KIND),
    (with_row({"item": {"answer": 5}}), ".source.content[1]", VALUE),
    ({"type": "jsonl", "source": {"type": "file_id"}}, ".source.id", MISSING),
    ({"type": "jsonl", "source": {"type": "file_id", "id": NO_FILE}}, ".source.id", VALUE),
    ({"type": "jsonl", "source": STORED["source"]}, ".source.type", VALUE),
    ({**CHAT, "source": RESPONSES["source"]}, ".source.type", VALUE),
    ({**FLAT, "source": STORED["source"]}, ".source.type", VALUE),
    *((without(one, "model"), ".model", MISSING) for one in (CHAT, FLAT)),
    *((without(one, "input_messages"), ".input_messages", MISSING) for one in (CHAT, FLAT)),
    ({**CHAT, "model": "nobody"}, ".model", "model_not_found"),
    ({**CHAT, "input_messages": {"type": "x"}}, ".input_messages.type", VALUE),
    (
        {**CHAT, "input_messages": {"type": "template", "template": []}},
        ".input_messages.template",
        "array_below_min_length",
    ),
    (
        {**CHAT, "input_messages": {**PROMPT, "template": [{"role": "tool", "content": "x"}]}},
        ".input_messages.template[0].role",
        VALUE,
    ),
    *(
        (
            {**CHAT, "input_messages": {**REFERENCE, "item_reference": path}},
            ".input_messages.item_reference",
            VALUE,
        )
        for path in ("", "item", "item.", "sample.output_text", "{{ item.input }}")
    ),
    *(
        ({**CHAT, "sampling_params": {name: value}}, f".sampling_params.{name}", code)
        for name, value, code in (
            ("reasoning_effort", "lots", VALUE),
            ("temperature", "1", KIND),
            ("temperature", 2.1, "decimal_above_max_value"),
            ("temperature", -0.1, "decimal_below_min_value"),
            ("top_p", 1.1, "decimal_above_max_value"),
            ("seed", 0.5, KIND),
            ("max_completion_tokens", 0, "integer_below_min_value"),
            ("max_completions_tokens", 0, "integer_below_min_value"),
            ("tools", [{"type": "function", "function": TOOL}] * 129, "array_above_max_length"),
        )
    ),
    (
        {**CHAT, "sampling_params": {"response_format": {"type": "yaml"}}},
        ".sampling_params.response_format.type",
        VALUE,
    ),
    (
        {**FLAT, "sampling_params": {"text": {"format": {"type": "yaml"}}}},
        ".sampling_params.text.format.type",
        VALUE,
    ),
    *(
        ({**one, "source": {**one["source"], name: value}}, f".source.{name}", code)
        for one in (STORED, RESPONSES)
        for name, value, code in (
            ("created_after", -1, "integer_below_min_value"),
            ("created_before", "now", KIND),
            ("limit", 0, "integer_below_min_value"),
            ("metadata", LONG, "object_above_max_properties"),
            ("model", 5, KIND),
        )
    ),
    *(
        ({**RESPONSES, "source": {**RESPONSES["source"], name: 5}}, f".source.{name}", KIND)
        for name in ("instructions_search", "reasoning_effort", "users", "tools")
    ),
]  # fmt: skip


def test_what_is_wrong_is_refused_before_anything_is_stored(caller: Caller) -> None:
    eval_id = caller.new_eval()["id"]
    fields: list[tuple[dict[str, Any], str, str]] = [
        ({}, "data_source", MISSING),
        *(({"data_source": sent}, f"data_source{at}", code) for sent, at, code in REFUSED),
        *(
            ({**run_body(), name: value}, at, code)
            for name, value, at, code in (
                ("name", 5, "name", KIND),
                ("name", "", "name", VALUE),
                ("metadata", {"a": 1}, "metadata.a", KIND),
                ("metadata", LONG, "metadata", "object_above_max_properties"),
                ("metadata", {"k" * 65: "v"}, "metadata", "string_above_max_length"),
                ("metadata", {"a": "v" * 513}, "metadata.a", "string_above_max_length"),
                ("model", "m", "model", "unknown_parameter"),
            )
        ),
    ]
    before = stored()
    for body, param, code in fields:
        status, answer = caller.post(f"/evals/{eval_id}/runs", body)
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error"), body
        assert (answer["error"]["param"], answer["error"]["code"]) == (param, code), answer
        assert answer["error"]["message"]
    assert stored() == before


def test_a_reference_must_lead_to_messages_or_its_item_errs(caller: Caller) -> None:
    said = [{"role": "system", "content": "Repeat."}, {"role": "user", "content": "billing"}]
    there: list[Any] = [said, [], "billing", None, 5, ["billing"], {}]
    places = [{"a": {"b": [None, {"c": one}]}} for one in there]
    rows = [{"item": {"label": "billing", "in": place}} for place in [*places, {"a": {}}]]
    reference = {"type": "item_reference", "item_reference": "item.in.a.b[1].c"}
    for kind in ("completions", "responses"):
        source = {"type": "file_content", "content": rows}
        sent = {**CHAT, "type": kind, "source": source, "input_messages": reference}
        run, items = caller.over({"data_source": sent}, ECHOED)
        assert [item["status"] for item in items] == ["pass", *["error"] * 7]
        assert items[0]["sample"]["input"] == said
        assert {item["sample"]["error"]["code"] for item in items[1:]} == {"invalid_prompt"}
        assert (run["status"], run["result_counts"]["errored"]) == ("completed", 7)


def test_both_ways_to_sample_read_a_file_and_give_json_where_it_was_asked_for(
    caller: Caller,
) -> None:
    rows = [{"item": {"label": text}} for text in ('{"a": "1"}', "no JSON")]
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    _, file = caller.upload(SimpleUploadedFile("rows.jsonl", lines))
    criterion = {**STRING_CHECK, "input": "{{ sample.output_json.a }}", "reference": "1"}
    form: dict[str, Any] = {"type": "json_schema", **SCHEMA}
    for sent, statuses in (
        (
            {**CHAT, "sampling_params": {"response_format": {"type": "json_object"}}},
            ["pass", "fail"],
        ),
        ({**CHAT, "sampling_params": {"response_format": {"type": "text"}}}, ["fail", "fail"]),
        ({**FLAT, "sampling_params": {"text": {"format": form}}}, ["pass", "fail"]),
        (FLAT, ["fail", "fail"]),
    ):
        source = {"type": "file_id", "id": file["id"]}
        run, items = caller.over({"data_source": {**sent, "source": source}}, criterion)
        assert [item["status"] for item in items] == statuses, sent
        assert (run["data_source"]["type"], run["data_source"]["source"]) == (sent["type"], source)


def test_every_parameter_of_sampling_goes_to_the_model_in_either_form(caller: Caller) -> None:
    params = {
        "reasoning_effort": "low",
        "temperature": 0.5,
        "top_p": 0.25,
        "seed": 7,
        "max_completion_tokens": 9,
    }
    forms: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (CHAT, {"response_format": FORMATS[2], "tools": [{"type": "function", "function": TOOL}]}),
        (FLAT, {"text": {"format": {"type": "json_schema", **SCHEMA}}, "tools": [TOOL_FLAT]}),
    ]
    reads_tools = {**STRING_CHECK, "input": "{{ sample.input_tools[0].function.name }}"}
    for sent, more in forms:
        asked = {"data_source": {**sent, "sampling_params": {**params, **more}}}
        run, items = caller.over(asked, {**reads_tools, "reference": "f"})
        assert run["result_counts"] == {**ZERO, "total": 3, "passed": 3}
        shown = {name: items[0]["sample"][name] for name in params if name != "reasoning_effort"}
        assert {**shown, "reasoning_effort": "low"} == params
        target = Run.objects.get(pk=RUN_ID.to_internal_value(run["id"])).read_target()
        assert target["params"] == {**params, **forms[0][1]}
