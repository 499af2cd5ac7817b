"""Section 16 of docs/contracts/openai.md, row by row: completions asked for, kept and found."""

import re
import time
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionStoreMessage

from apps.inference.models import StoredCompletion
from tests.dialects.openai.caller import STRING_CHECK, Caller, work
from tests.factories import make_endpoint
from tests.model_server import ModelServer

pytestmark = pytest.mark.django_db

PATH = "/chat/completions"
MESSAGE = {"role": "user", "content": "one two"}
BODY = {"model": "echo", "messages": [MESSAGE]}
PARTS = [
    {"type": "text", "text": "look"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
]


@pytest.fixture
def caller(server: ModelServer) -> Caller:
    caller = Caller()
    make_endpoint(caller.actor, server.base_url, models=["echo"])
    return caller


def asked(caller: Caller, **fields: Any) -> dict[str, Any]:
    status, answer = caller.post(PATH, {**BODY, **fields})
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


def test_the_answer_is_a_completion_and_is_kept_only_where_that_is_asked_for(
    caller: Caller,
) -> None:
    for fields in (
        {},
        {"store": False},
        {"store": None, "metadata": None},
        {"metadata": {"a": "b"}},
    ):
        answer = asked(caller, **fields)
        assert caller.get(f"{PATH}/{answer['id']}")[0] == 404
    assert caller.get(PATH)[1]["data"] == []
    answer = asked(caller, store=True, metadata={"a": "b"}, temperature=0.5, user="ann")
    ChatCompletion.model_validate(answer)
    assert re.fullmatch(r"chatcmpl-[0-9A-Za-z]+", answer["id"])
    assert abs(answer["created"] - time.time()) < 60
    message = {"role": "assistant", "content": "one two", "refusal": None}
    assert answer == {
        "id": answer["id"],
        "object": "chat.completion",
        "created": answer["created"],
        "model": "echo",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 2,
            "completion_tokens": 2,
            "total_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
    _, shown = caller.get(f"{PATH}/{answer['id']}")
    unsaid = ("top_p", "presence_penalty", "frequency_penalty", "seed", "response_format")
    assert shown == {
        **answer,
        "metadata": {"a": "b"},
        "request_id": None,
        "input_user": "ann",
        "temperature": 0.5,
        **dict.fromkeys((*unsaid, "tools", "tool_choice", "service_tier")),
    }
    ChatCompletion.model_validate({**shown, "service_tier": "auto"})
    page = {"first_id": answer["id"], "last_id": answer["id"], "has_more": False}
    assert caller.get(PATH) == (200, {"object": "list", "data": [shown], **page})


LONG = {str(number): "v" for number in range(17)}
METADATA: list[tuple[Any, str, str]] = [
    ([], "metadata", "invalid_type"),
    ({"a": 1}, "metadata.a", "invalid_type"),
    (LONG, "metadata", "object_above_max_properties"),
    ({"k" * 65: "v"}, "metadata", "string_above_max_length"),
    ({"a": "v" * 513}, "metadata.a", "string_above_max_length"),
]


def test_metadata_is_taken_to_its_limits_and_is_all_that_an_update_changes(caller: Caller) -> None:
    full = {f"{number:02}" + "k" * 62: "v" * 512 for number in range(16)}
    answer = asked(caller, store=True, metadata=full)
    where = f"{PATH}/{answer['id']}"
    _, before = caller.get(where)
    assert before["metadata"] == full
    for metadata, param, code in METADATA:
        for path, asking in ((PATH, {**BODY, "store": True}), (where, {})):
            status, refused = caller.post(path, {**asking, "metadata": metadata})
            told = (status, refused["error"]["param"], refused["error"]["code"])
            assert told == (400, param, code), (path, metadata)
    bodies: list[tuple[dict[str, Any], str, str]] = [
        ({}, "metadata", "missing_required_parameter"),
        ({"metadata": {}, "model": "x"}, "model", "unknown_parameter"),
    ]
    for body, param, code in bodies:
        status, refused = caller.post(where, body)
        told = (status, refused["error"]["param"], refused["error"]["code"])
        assert told == (400, param, code)
    assert caller.get(where) == (200, before)
    assert StoredCompletion.objects.count() == 1
    for sent, shown in (({"a": ""}, {"a": ""}), (full, full), (None, {}), ({}, {})):
        expected = (200, {**before, "metadata": shown})
        assert caller.post(where, {"metadata": sent}) == expected == caller.get(where)


def test_messages_have_an_id_each_and_what_they_say_as_text_or_in_parts(caller: Caller) -> None:
    sent: list[dict[str, Any]] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": PARTS, "name": "Ann"},
        {"role": "assistant", "content": None, "tool_calls": []},
        MESSAGE,
    ]
    answer = asked(caller, store=True, messages=sent)
    status, page = caller.get(f"{PATH}/{answer['id']}/messages")
    ids = [message["id"] for message in page["data"]]
    assert (status, len({*ids}), all(isinstance(one, str) for one in ids)) == (200, 4, True)
    shown = [
        {**sent[0], "content_parts": None},
        {**sent[1], "content": None, "content_parts": PARTS},
        {**sent[2], "content_parts": None},
        {**sent[3], "content_parts": None},
    ]
    assert page == {
        "object": "list",
        "data": [{**message, "id": key} for message, key in zip(shown, ids, strict=True)],
        "first_id": ids[0],
        "last_id": ids[3],
        "has_more": False,
    }
    for message in page["data"]:
        ChatCompletionStoreMessage.model_validate({**message, "role": "assistant"})


@pytest.mark.parametrize("of", ["", "/messages"])
def test_what_a_list_can_and_cannot_be_asked(caller: Caller, of: str) -> None:
    many = [{"role": "user", "content": str(number)} for number in range(21)]
    made = [asked(caller, store=True, messages=many)["id"] for _ in range(1 if of else 21)]
    path = f"{PATH}/{made[0]}{of}" if of else PATH
    ids = [one["id"] for one in caller.get(path, limit=100)[1]["data"]]
    assert len(ids) == 21
    assert of or ids == made  # the oldest first
    for query, found, has_more in (
        ({}, ids[:20], True),
        ({"order": "asc", "limit": 1}, ids[:1], True),
        ({"order": "desc"}, ids[:0:-1], True),
        ({"after": ids[4], "limit": 3}, ids[5:8], True),
        ({"after": ids[4], "order": "desc"}, ids[3::-1], False),
        ({"after": ids[20]}, [], False),
        ({"limit": 21}, ids, False),
    ):
        _, page = caller.get(path, **query)
        assert [one["id"] for one in page["data"]] == found, query
        ends = (page["first_id"], page["last_id"], page["has_more"])
        assert ends == (*((found[0], found[-1]) if found else (None, None)), has_more)
    for name, value, code in (
        ("limit", "0", "integer_below_min_value"),
        ("limit", "101", "integer_above_max_value"),
        ("limit", "ten", "invalid_type"),
        ("order", "up", "invalid_value"),
        ("after", "chatcmpl-" + "0" * 22, "invalid_value"),
        ("after", "\0", "invalid_value"),
    ):
        status, answer = caller.get(path, **{name: value})
        told = (status, answer["error"]["param"], answer["error"]["code"])
        assert told == (400, name, code)


def test_an_id_that_is_unknown_or_of_another_kind_is_not_found(caller: Caller) -> None:
    _, response = caller.post("/responses", {"model": "builtin/echo", "input": "x"})
    for name in ("chatcmpl-" + "0" * 22, "x", "a%2Fb", response["id"]):
        where = f"{PATH}/{name}"
        for status, answer in (
            caller.get(where),
            caller.get(f"{where}/messages"),
            caller.post(where, {"metadata": {}}),
            caller.delete(where),
        ):
            error = answer["error"]
            assert (status, error["type"], error["param"]) == (404, "invalid_request_error", None)
            assert error["code"] == "not_found"


@pytest.mark.django_db(transaction=True)
def test_as_a_source_its_messages_are_the_input_and_its_answer_the_sample(caller: Caller) -> None:
    messages = [{"role": "system", "content": "Bé"}, {"role": "user", "content": PARTS}]
    asked(caller, store=True, messages=messages)
    criteria = [
        {**STRING_CHECK, "input": "{{ sample.output_text }}", "reference": "look"},
        {
            **STRING_CHECK,
            "input": "{{ item.input }}",
            "reference": '[{"role":"system","content":"Bé"},{"role":"user",',
            "operation": "like",
        },
        {**STRING_CHECK, "input": "{{ item.input[0].content }}", "reference": "Bé"},
    ]
    made = caller.new_eval(
        data_source_config={"type": "stored_completions"}, testing_criteria=criteria
    )
    source = {"type": "completions", "source": {"type": "stored_completions"}}
    run = caller.new_run(made["id"], {"data_source": source})
    work()
    [item] = caller.get(f"/evals/{made['id']}/runs/{run['id']}/output_items")[1]["data"]
    assert [result["passed"] for result in item["results"]] == [True] * 3, item
    assert item["datasource_item"] == {"input": messages}
    assert item["sample"]["output"] == [{"role": "assistant", "content": "look", "refusal": None}]
    assert (item["sample"]["model"], item["sample"]["finish_reason"]) == ("echo", "stop")
