"""Sections 7 and 8 of contracts/openai.md, row by row: what runs take, show and become."""

import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from openai.types.evals import RunRetrieveResponse

from apps.evaluations.engine.work import Worker
from apps.evaluations.models import Run
from evalplatform.dialects.openai.wire import RUN_ID
from tests.dialects.openai.caller import (
    ROWS,
    STRING_CHECK,
    Caller,
    chat_body,
    run_body,
    stored,
    work,
)
from tests.factories import make_endpoint
from tests.model_server import running
from tests.served import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

ZERO = {"total": 0, "errored": 0, "failed": 0, "passed": 0}
ECHOED = {**STRING_CHECK, "input": "{{ sample.output_text }}"}
NOTHING = {"provider_credentials": None, "modalities": None, "sampling_params": None}
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


def over(caller: Caller, body: dict[str, Any], *criteria: dict[str, Any]) -> tuple[Any, list[Any]]:
    """The run of a new eval when it has ended, and its items."""
    eval_id = caller.new_eval(testing_criteria=criteria or [STRING_CHECK])["id"]
    where = f"/evals/{eval_id}/runs/{caller.new_run(eval_id, body)['id']}"
    work()
    run = caller.get(where)[1]
    return run, caller.get(f"{where}/output_items")[1]["data"]


# --- the object ----------------------------------------------------------------------------------


def test_a_run_has_these_fields_when_it_is_made_and_when_it_is_over(caller: Caller) -> None:
    made = caller.new_eval(testing_criteria=[STRING_CHECK, ECHOED])
    keys = [criterion["id"] for criterion in made["testing_criteria"]]
    body = {"name": "first", "metadata": {"a": "b"}, "data_source": CHAT}
    run = caller.new_run(made["id"], body)
    assert re.fullmatch(r"evalrun_[0-9a-f]{32}", run["id"])
    assert abs(run["created_at"] - time.time()) < 60
    assert run == {
        "object": "eval.run",
        "id": run["id"],
        "eval_id": made["id"],
        "status": "queued",
        "model": "builtin/echo",
        "name": "first",
        "created_at": run["created_at"],
        "report_url": f"http://testserver/app/runs/{RUN_ID.to_internal_value(run['id'])}/",
        "result_counts": ZERO,
        "per_model_usage": None,
        "per_testing_criteria_results": None,
        "data_source": {**CHAT, **NOTHING},
        "error": None,
        "metadata": {"a": "b"},
        "shared_with_openai": False,
    }
    work()
    _, done = caller.get(f"/evals/{made['id']}/runs/{run['id']}")
    tokens = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")
    assert done == {
        **run,
        "status": "completed",
        "result_counts": {"total": 3, "errored": 1, "failed": 1, "passed": 1},
        "per_model_usage": [
            {"model_name": "builtin/echo", "invocation_count": 3, **dict.fromkeys(tokens, 0)}
        ],
        "per_testing_criteria_results": [
            {"testing_criteria": keys[0], "passed": 1, "failed": 1, "errored": 1},
            {"testing_criteria": keys[1], "passed": 3, "failed": 0, "errored": 0},
        ],
    }
    # contract: openai section 21: hosted runs have null here, too, which the types do not know
    RunRetrieveResponse.model_validate({**done, "error": {"code": "", "message": ""}})


@pytest.mark.parametrize(
    ("rows", "status", "counts"),
    [
        ([], "failed", ZERO),
        ([{"item": {}}] * 2, "completed", {**ZERO, "total": 2, "errored": 2}),
        (ROWS[:1], "completed", {**ZERO, "total": 1, "passed": 1}),
    ],
)
def test_a_run_fails_for_what_is_wrong_with_all_of_it_and_never_for_its_items(
    caller: Caller, rows: Any, status: str, counts: dict[str, int]
) -> None:
    run, items = over(caller, run_body(rows))
    assert (run["status"], run["result_counts"], run["model"]) == (status, counts, "")
    assert len(items) == counts["total"]
    if status == "failed":
        assert run["error"].keys() == {"code", "message"}
        assert all(isinstance(word, str) and word for word in run["error"].values())
    else:
        assert run["error"] is None


# --- what it takes -------------------------------------------------------------------------------

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


# --- what becomes of it --------------------------------------------------------------------------


def test_a_reference_must_lead_to_messages_or_its_item_errs(caller: Caller) -> None:
    said = [{"role": "system", "content": "Repeat."}, {"role": "user", "content": "billing"}]
    there: list[Any] = [said, [], "billing", None, 5, ["billing"], {}]
    places = [{"a": {"b": [None, {"c": one}]}} for one in there]
    rows = [{"item": {"label": "billing", "in": place}} for place in [*places, {"a": {}}]]
    reference = {"type": "item_reference", "item_reference": "item.in.a.b[1].c"}
    for kind in ("completions", "responses"):
        source = {"type": "file_content", "content": rows}
        sent = {**CHAT, "type": kind, "source": source, "input_messages": reference}
        run, items = over(caller, {"data_source": sent}, ECHOED)
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
            ["pass", "error"],
        ),
        ({**CHAT, "sampling_params": {"response_format": {"type": "text"}}}, ["error", "error"]),
        ({**FLAT, "sampling_params": {"text": {"format": form}}}, ["pass", "error"]),
        (FLAT, ["error", "error"]),
    ):
        source = {"type": "file_id", "id": file["id"]}
        run, items = over(caller, {"data_source": {**sent, "source": source}}, criterion)
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
        run, items = over(caller, asked, {**reads_tools, "reference": "f"})
        assert run["result_counts"] == {**ZERO, "total": 3, "passed": 3}
        shown = {name: items[0]["sample"][name] for name in params if name != "reasoning_effort"}
        assert {**shown, "reasoning_effort": "low"} == params
        target = Run.objects.get(pk=RUN_ID.to_internal_value(run["id"])).read_target()
        assert target["params"] == {**params, **forms[0][1]}


# --- how it is stopped and deleted ---------------------------------------------------------------

STATES = ("queued", "in_progress", "completed", "canceled", "failed")


def in_status(caller: Caller, eval_id: str, status: str) -> dict[str, Any]:
    """A run that has come to this status, with the rows that it then has."""
    body = run_body([]) if status == "failed" else run_body()
    run = caller.new_run(eval_id, body)
    where = f"/evals/{eval_id}/runs/{run['id']}"
    if status == "in_progress":
        pk = RUN_ID.to_internal_value(run["id"])
        Run.objects.filter(pk=pk).update(state=Run.State.RUNNING)
    elif status == "canceled":
        caller.post(f"{where}/cancel")
    elif status != "queued":
        work()
    _, shown = caller.get(where)
    assert shown["status"] == status
    return shown


@pytest.mark.parametrize("path", ["", "/cancel"])
@pytest.mark.parametrize("status", STATES)
def test_a_run_is_stopped_while_it_goes_and_never_leaves_a_state_that_ends_it(
    caller: Caller, status: str, path: str
) -> None:
    eval_id = caller.new_eval()["id"]
    run = in_status(caller, eval_id, status)
    where = f"/evals/{eval_id}/runs/{run['id']}"
    code, answer = caller.post(where + path)
    if status in ("completed", "failed"):
        assert (code, answer["error"]["type"]) == (400, "invalid_request_error")
        assert caller.get(where) == (200, run)
    elif status == "canceled":
        assert (code, answer) == (200, run)
    else:
        assert (code, answer["status"], answer["error"]) == (200, "canceled", None)
        assert (answer["result_counts"], answer["per_model_usage"]) == (ZERO, [])
        assert [
            (line["passed"], line["failed"]) for line in answer["per_testing_criteria_results"]
        ] == [(0, 0)]
        work()
        assert caller.get(where) == (200, answer)
        assert caller.get(f"{where}/output_items")[1]["data"] == []


@pytest.mark.parametrize("status", STATES)
def test_a_run_of_any_status_is_deleted_with_its_items_and_no_other(
    caller: Caller, status: str
) -> None:
    eval_id = caller.new_eval()["id"]
    other = caller.new_run(eval_id)
    run = in_status(caller, eval_id, status)
    where = f"/evals/{eval_id}/runs/{run['id']}"
    items = caller.get(f"{where}/output_items")[1]["data"]
    assert bool(items) is (status == "completed")
    paths = ["/output_items", *(f"/output_items/{item['id']}" for item in items)]
    expected = {"object": "eval.run.deleted", "deleted": True, "run_id": run["id"]}
    assert caller.delete(where) == (200, expected)
    work()
    for answer in (
        *(caller.get(where + path) for path in ["", *paths]),
        *(caller.post(where + path) for path in ("", "/cancel")),
        caller.delete(where),
    ):
        assert (answer[0], answer[1]["error"]["code"]) == (404, "not_found")
    left = caller.get(f"/evals/{eval_id}/runs")[1]["data"]
    assert [(one["id"], one["status"]) for one in left] == [(other["id"], "completed")]


@pytest.fixture
def slow() -> Iterator[Caller]:
    with running() as server:
        caller = Caller()
        make_endpoint(caller.actor, server.base_url, models=["slow:0.2"], concurrency=2)
        yield caller


def test_what_was_done_before_a_cancel_stays_and_nothing_comes_after_it(slow: Caller) -> None:
    rows = [{"item": {"label": str(number)}} for number in range(60)]
    eval_id = slow.new_eval(testing_criteria=[ECHOED])["id"]
    body = chat_body("slow:0.2", source={"type": "file_content", "content": rows})
    where = f"/evals/{eval_id}/runs/{slow.new_run(eval_id, body)['id']}"

    def work_aside() -> None:
        try:
            Worker().run()
        finally:
            connection.close()

    aside = threading.Thread(target=work_aside)
    aside.start()
    try:
        wait_until(lambda: slow.get(where)[1]["result_counts"]["passed"] >= 2, 20)
        _, going = slow.get(where)
        assert going["status"] == "in_progress"
        assert (going["per_model_usage"], going["per_testing_criteria_results"]) == (None, None)
        assert going["error"] is None
        _, stopped = slow.post(f"{where}/cancel")
        assert stopped["status"] == "canceled"
    finally:
        aside.join(30)
    work()
    assert slow.get(where) == (200, stopped)
    counts = stopped["result_counts"]
    assert 2 <= going["result_counts"]["total"] <= counts["total"] < len(rows)
    assert counts == {**ZERO, "total": counts["total"], "passed": counts["total"]}
    items = slow.get(f"{where}/output_items", limit=100)[1]["data"]
    assert [item["status"] for item in items] == ["pass"] * counts["total"]
    [line] = stopped["per_testing_criteria_results"]
    assert (line["passed"], line["failed"], line["errored"]) == (counts["total"], 0, 0)
