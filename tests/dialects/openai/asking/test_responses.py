"""Responses through the wire: asked live or in events, kept, gone on from, deleted."""

import json
from typing import Any

import pytest

from apps.inference.endpoints import add_endpoint
from apps.inference.models import StoredCompletion
from evalplatform.dialects.openai.asking.chat_form import chat_format, chat_messages
from evalplatform.dialects.openai.asking.response_output import output_items
from tests.dialects.openai.caller import Caller
from tests.model_server import ModelServer

pytestmark = pytest.mark.django_db

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FORMAT = {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}
TOOL = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": None}
CALL = {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": "{}"}


@pytest.fixture
def caller(server: ModelServer) -> Caller:
    caller = Caller()
    add_endpoint(
        caller.actor,
        base_url=server.base_url,
        models=["echo", "refusal", "breaks-off", "status-400"],
        allow_private=True,
    )
    return caller


def ask(caller: Caller, given: Any = "one two", **fields: Any) -> dict[str, Any]:
    status, answer = caller.post("/responses", {"model": "builtin/echo", "input": given, **fields})
    assert status == 200, answer
    return answer


def text_of(response: dict[str, Any]) -> str:
    return response["output"][0]["content"][0]["text"]


def test_a_response_tells_what_was_asked_and_is_kept(caller: Caller):
    answer = ask(caller, model="echo", instructions="Repeat.", metadata={"a": "b"}, temperature=0)
    assert answer["id"].startswith("resp_")
    assert (answer["object"], answer["status"]) == ("response", "completed")
    assert (text_of(answer), answer["instructions"]) == ("one two", "Repeat.")
    assert (answer["temperature"], answer["top_p"], answer["metadata"]) == (0, 1.0, {"a": "b"})
    assert answer["usage"]["input_tokens"] == 3
    assert answer["usage"]["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 0}
    assert answer["usage"]["total_tokens"] == 5
    assert caller.get(f"/responses/{answer['id']}") == (200, answer)
    assert caller.get("/chat/completions")[1]["data"] == []


def test_a_response_that_is_not_to_be_kept_is_not():
    caller = Caller()
    answer = ask(caller, store=False)
    assert answer["store"] is False
    assert caller.get(f"/responses/{answer['id']}")[0] == 404
    assert not StoredCompletion.objects.exists()


def test_a_deleted_response_is_gone():
    caller = Caller()
    path = f"/responses/{ask(caller)['id']}"
    assert caller.delete(path)[1]["deleted"] is True
    assert caller.get(path)[0] == caller.delete(path)[0] == 404


def test_a_response_goes_on_from_another():
    caller = Caller()
    first = ask(caller, "one")
    ask(caller, "two", previous_response_id=first["id"])
    said = StoredCompletion.objects.order_by("created_at", "id").last()
    assert said is not None
    assert [(m["role"], m["content"]) for m in said.read_messages()] == [
        ("user", "one"),
        ("assistant", "one"),
        ("user", "two"),
    ]
    body = {"model": "builtin/echo", "input": "x", "previous_response_id": "resp_x"}
    status, answer = caller.post("/responses", body)
    assert (status, answer["error"]["code"]) == (400, "previous_response_not_found")


def test_the_output_can_be_sent_back_as_input():
    caller = Caller()
    first = ask(caller, [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}])
    assert text_of(ask(caller, [*first["output"], {"role": "user", "content": "there"}])) == "there"


def test_a_refusal_is_told_as_one(caller: Caller):
    [item] = ask(caller, model="refusal")["output"]
    assert item["content"] == [{"type": "refusal", "refusal": "I cannot help with that."}]


def test_calls_become_messages_and_back():
    output = {"type": "function_call_output", "call_id": "call_1", "output": "3"}
    given = [{"role": "user", "content": "1+2"}, CALL, {**CALL, "call_id": "call_2"}, output]
    messages = chat_messages(given)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["call_1", "call_2"]
    completion = {"choices": [{"message": messages[1]}]}
    shown = [item | {"id": None, "status": None} for item in output_items(completion, "k")]
    empty = {"id": None, "status": None}
    assert shown == [CALL | empty, CALL | {"call_id": "call_2"} | empty]


def test_a_flat_format_becomes_a_chat_servers():
    named = {"name": "answer", "schema": SCHEMA, "strict": True}
    assert chat_format({"format": FORMAT}) == {"type": "json_schema", "json_schema": named}
    assert chat_format({"format": {"type": "json_object"}}) == {"type": "json_object"}
    assert chat_format({}) is chat_format(None) is None


def test_parameters_are_kept_as_they_were_sent_to_the_server():
    caller = Caller()
    ask(
        caller,
        max_output_tokens=5,
        reasoning={"effort": "low"},
        text={"format": FORMAT},
        tools=[TOOL],
        tool_choice={"type": "function", "name": "add"},
    )
    params = StoredCompletion.objects.get().read_params()
    assert params["max_completion_tokens"] == 5
    assert params["reasoning_effort"] == "low"
    assert params["response_format"]["json_schema"]["name"] == "answer"
    function = {"name": "add", "parameters": {"type": "object"}}
    assert params["tools"] == [{"type": "function", "function": function}]
    assert params["tool_choice"] == {"type": "function", "function": {"name": "add"}}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": None}, "input", "invalid_type"),
        ({"input": 5}, "input", "invalid_type"),
        ({"input": []}, "input", "array_below_min_length"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type", "invalid_value"),
        ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.name", None),
        ({"background": True}, "background", "unsupported_parameter"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        # Clients send it without a model and without an input.
        (
            {"prompt": {"id": "pmpt_1"}, "model": None, "input": None},
            "prompt",
            "unsupported_parameter",
        ),
        ({"temperature": 3}, "temperature", "decimal_above_max_value"),
    ],
)
def test_a_bad_request_is_refused_with_its_field(
    fields: dict[str, Any], param: str, code: str | None
):
    body = {"model": "builtin/echo", "input": "x", **fields}
    status, answer = Caller().post("/responses", body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert code in {None, answer["error"]["code"]}


def test_an_unknown_model_is_not_found():
    status, answer = Caller().post("/responses", {"model": "nobody", "input": "x"})
    assert (status, answer["error"]["code"]) == (404, "model_not_found")


def events(caller: Caller, **fields: Any) -> list[dict[str, Any]]:
    body = {"model": "echo", "input": "one two", "stream": True, **fields}
    answer = caller.client.post("/v1/responses", json.dumps(body), content_type="application/json")
    assert answer["Content-Type"] == "text/event-stream"
    told = []
    for block in b"".join(answer.streaming_content).decode().split("\n\n")[:-1]:  # type: ignore[arg-type]
        name, data = block.split("\n")
        told.append(json.loads(data.removeprefix("data: ")))
        assert told[-1]["type"] == name.removeprefix("event: ")
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    return told


def test_a_streamed_response_is_told_in_events_and_kept_whole(caller: Caller):
    told = events(caller)
    assert [event["type"].removeprefix("response.") for event in told] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    whole = told[-1]["response"]
    assert (text_of(whole), whole["usage"]["total_tokens"]) == ("one two", 4)
    assert caller.get(f"/responses/{whole['id']}") == (200, whole)


def test_a_streamed_refusal_is_told_as_a_whole_item(caller: Caller):
    kinds = [event["type"] for event in events(caller, model="refusal")]
    assert kinds[2:] == [
        "response.output_item.added",
        "response.output_item.done",
        "response.completed",
    ]


def test_a_response_that_breaks_off_ends_in_an_error_and_is_not_kept(caller: Caller):
    told = events(caller, model="breaks-off", input="a b c d")
    assert told[-1]["type"] == "error"
    assert told[-1]["message"]
    assert not StoredCompletion.objects.exists()


def test_the_input_of_a_response_is_listed_newest_first(caller: Caller):
    call = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}
    done = {"type": "function_call_output", "call_id": "c1", "output": "3"}
    image = {"type": "input_image", "image_url": "https://example.com/a.png"}
    look = {"role": "user", "content": [{"type": "input_text", "text": "Look"}, image]}
    _, first = caller.post("/responses", {"model": "builtin/echo", "input": [look, call, done]})
    where = f"/responses/{first['id']}/input_items"
    status, page = caller.get(where)
    assert status == 200, page
    assert [item["type"] for item in page["data"]] == [
        "function_call_output",
        "function_call",
        "message",
    ]
    shown = page["data"][2]
    assert (shown["role"], shown["content"][0]["text"]) == ("user", "Look")
    assert shown["content"][1]["image_url"] == image["image_url"]
    oldest = caller.get(where, order="asc", limit=1)[1]
    assert (oldest["data"], oldest["has_more"]) == ([shown], True)
    rest = caller.get(where, order="asc", after=shown["id"])[1]
    assert [item["call_id"] for item in rest["data"]] == ["c1", "c1"]
    assert caller.get(where, after="msg_1")[1]["error"]["param"] == "after"
    assert Caller().get(where)[0] == 404


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"tools": [{"type": "web_search_preview"}]}, "tools[0].type", "declare a function"),
        ({"tools": [{"type": "mcp", "server_url": "u"}]}, "tools[0].type", "declare a function"),
        ({"tools": [{"type": "file_search"}]}, "tools[0].type", "file_search are not run here"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools[0].type", "declare a function"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "put the text of the prompt"),
        ({"conversation": "conv_1"}, "conversation", "previous_response_id"),
        ({"background": True}, "background", "leave it out"),
    ],
)
def test_what_only_the_hosted_service_does_is_refused_with_what_to_do(
    caller: Caller, fields: dict[str, Any], param: str, words: str
):
    body = {"model": "builtin/echo", "input": "Hello", **fields}
    status, answer = caller.post("/responses", body)
    assert (status, answer["error"]["param"]) == (400, param), answer
    assert words in answer["error"]["message"]


def test_tokens_are_not_counted_ahead(caller: Caller):
    status, answer = caller.post("/responses/input_tokens", {"model": "m", "input": "Hello"})
    assert status == 404
    assert "`usage`" in answer["error"]["message"]
