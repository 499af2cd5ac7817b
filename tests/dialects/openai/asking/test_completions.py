"""Chat completions through the wire: asked live or in chunks, kept, listed, changed, deleted."""

import json
from typing import Any

import pytest

from apps.inference import live_calls as live
from apps.inference.endpoints import add_endpoint
from apps.inference.models import CompletionTag, StoredCompletion
from tests.dialects.openai.caller import Caller
from tests.factories import make_actor
from tests.model_server import ModelServer

pytestmark = pytest.mark.django_db

MODELS = (
    "echo",
    "whole",
    "breaks-off",
    "garbage",
    "reset",
    *(f"status-{status}" for status in (400, 401, 404, 422, 429, 500, 503)),
)


@pytest.fixture
def caller(server: ModelServer) -> Caller:
    caller = Caller()
    add_endpoint(
        caller.actor,
        base_url=server.base_url,
        models=MODELS,
        aliases={"nickname": "answer:42"},
        allow_private=True,
    )
    return caller


def asked(text: str = "one two", model: str = "builtin/echo", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def kept(caller: Caller, text: str = "one two", **fields: Any) -> dict[str, Any]:
    status, answer = caller.post("/chat/completions", asked(text, store=True, **fields))
    assert status == 200, answer
    return answer


def streamed(caller: Caller, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The data of the events; the closing one must be there unless an error is the last."""
    answer = caller.client.post(
        "/v1/chat/completions", json.dumps(body), content_type="application/json"
    )
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "text/event-stream"
    text = b"".join(answer.streaming_content).decode()  # type: ignore[arg-type]
    events = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
    if events[-1] == "[DONE]":
        events.pop()
    else:
        assert "error" in json.loads(events[-1])
    return [json.loads(event) for event in events]


def ids(caller: Caller, **query: Any) -> list[str]:
    status, page = caller.get("/chat/completions", **query)
    assert status == 200, page
    return [one["id"] for one in page["data"]]


def test_a_model_of_an_endpoint_answers_under_an_id_of_ours(caller: Caller):
    status, answer = caller.post("/chat/completions", asked(model="echo", temperature=0.5))
    assert status == 200
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "one two"
    assert answer["usage"]["total_tokens"] == 4
    assert len(answer["id"]) == len("chatcmpl-") + 22
    assert caller.get(f"/chat/completions/{answer['id']}")[0] == 404, "nobody asked to keep it"


def test_a_model_is_asked_by_the_name_that_its_server_knows(caller: Caller, server: ModelServer):
    answer = kept(caller, model="nickname")
    assert answer["choices"][0]["message"]["content"] == "42"
    assert server.counts()["models"] == {"answer:42": 1}
    assert StoredCompletion.objects.get().model == "nickname"


def test_an_unknown_model_is_not_found():
    status, answer = Caller().post("/chat/completions", asked(model="nobody"))
    error = answer["error"]
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status", "kind"),
    [
        ("status-400", 400, "invalid_request_error"),
        ("status-401", 502, "server_error"),
        ("status-404", 404, "invalid_request_error"),
        ("status-422", 422, "invalid_request_error"),
        ("status-429", 429, "rate_limit_error"),
        ("status-500", 502, "server_error"),
        ("status-503", 502, "server_error"),
        ("garbage", 502, "server_error"),
        ("reset", 502, "server_error"),
    ],
)
def test_what_a_model_server_refuses_comes_back_in_the_envelope_and_is_asked_once(
    model: str, status: int, kind: str, stream: bool, caller: Caller, server: ModelServer
):
    answered, answer = caller.post(
        "/chat/completions", asked(model=model, stream=stream, store=True)
    )
    assert (answered, answer["error"]["type"]) == (status, kind)
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    assert server.counts()["total"] == 1
    assert not StoredCompletion.objects.exists()


@pytest.mark.parametrize("stream", [False, True])
def test_a_number_that_cannot_be_sent_on_is_the_callers_fault(stream: bool, caller: Caller):
    status, answer = caller.post(
        "/chat/completions", asked(model="echo", stream=stream, seed=2**70)
    )
    assert (status, answer["error"]["code"]) == (400, "model_rejected")


def test_a_private_address_is_not_called_unless_the_endpoint_may(server: ModelServer):
    caller = Caller()
    add_endpoint(caller.actor, base_url=server.base_url, models=["echo"])
    for stream in (False, True):
        status, answer = caller.post("/chat/completions", asked(model="echo", stream=stream))
        assert (status, answer["error"]["code"]) == (502, "model_address_refused")


def test_more_than_a_process_can_hold_are_sent_away_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live._calls_at_once, "_value", 0)
    answer = Caller().client.post(
        "/v1/chat/completions", json.dumps(asked()), content_type="application/json"
    )
    assert (answer.status_code, answer["retry-after"]) == (429, "1")
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "model", "missing_required_parameter"),
        (asked(model=5), "model", "invalid_type"),
        ({"model": "builtin/echo"}, "messages", "missing_required_parameter"),
        ({"model": "builtin/echo", "messages": []}, "messages", "array_below_min_length"),
        ({"model": "builtin/echo", "messages": ["x"]}, "messages[0]", "invalid_type"),
        (asked(store="yes"), "store", "invalid_type"),
        (asked(metadata={"a": 1}), "metadata.a", "invalid_type"),
    ],
)
def test_a_bad_request_is_refused_with_its_field(body: Any, param: str, code: str):
    status, answer = Caller().post("/chat/completions", body)
    assert (status, answer["error"]["param"], answer["error"]["code"]) == (400, param, code)


def test_who_may_only_read_may_not_ask():
    caller = Caller(make_actor("viewer"))
    assert caller.post("/chat/completions", asked())[0] == 403
    assert caller.post("/responses", {"model": "builtin/echo", "input": "x"})[0] == 403


@pytest.mark.parametrize("model", ["echo", "whole", "builtin/echo"])
def test_a_streamed_answer_comes_in_chunks_and_is_kept_whole(model: str, caller: Caller):
    chunks = streamed(caller, asked("one two", model, stream=True, store=True))
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    [completion_id] = {chunk["id"] for chunk in chunks}
    said = [c["choices"][0]["delta"].get("content") for c in chunks if c["choices"]]
    assert "".join(word for word in said if word) == "one two"
    status, answer = caller.get(f"/chat/completions/{completion_id}")
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == "one two"
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_a_stream_that_breaks_off_ends_in_an_error_and_keeps_nothing(caller: Caller):
    events = streamed(caller, asked("a b c d", "breaks-off", stream=True, store=True))
    assert events[-1]["error"]["type"] == "server_error"
    assert not StoredCompletion.objects.exists()
    assert live._calls_at_once._value == live.CALLS_AT_ONCE


@pytest.mark.django_db(transaction=True)
def test_a_caller_who_goes_away_gives_its_place_back(caller: Caller):
    for read in (0, 1):
        answer = caller.client.post(
            "/v1/chat/completions",
            json.dumps(asked("a b c", "echo", stream=True, store=True)),
            content_type="application/json",
        )
        for _, _ in zip(range(read), answer.streaming_content, strict=False):  # type: ignore[arg-type]
            pass
        answer.close()
        assert live._calls_at_once._value == live.CALLS_AT_ONCE
    assert not StoredCompletion.objects.exists()


def test_a_kept_completion_reads_as_it_was_answered():
    caller = Caller()
    answer = kept(caller, metadata={"a": "b"}, temperature=0.25, seed=3)
    status, shown = caller.get(f"/chat/completions/{answer['id']}")
    assert status == 200
    assert {name: shown[name] for name in answer} == answer
    assert (shown["metadata"], shown["temperature"], shown["seed"]) == ({"a": "b"}, 0.25, 3)
    assert (shown["tools"], shown["input_user"]) == (None, None)


def test_metadata_is_replaced_as_a_whole_and_found_by_its_new_pairs():
    caller = Caller()
    answer = kept(caller, metadata={"a": "b", "c": "d"})
    path = f"/chat/completions/{answer['id']}"
    status, shown = caller.post(path, {"metadata": {"e": "f"}})
    assert (status, shown["metadata"]) == (200, {"e": "f"})
    assert ids(caller, **{"metadata[e]": "f"}) == [answer["id"]]
    assert ids(caller, **{"metadata[a]": "b"}) == []
    assert caller.post(path, {"metadata": None})[1]["metadata"] == {}
    assert not CompletionTag.objects.exists()
    assert caller.post(path, {"model": "x"})[1]["error"]["code"] == "missing_required_parameter"


def test_a_deleted_completion_is_gone_from_everywhere():
    caller = Caller()
    answer = kept(caller)
    path = f"/chat/completions/{answer['id']}"
    expected = {"object": "chat.completion.deleted", "id": answer["id"], "deleted": True}
    assert caller.delete(path) == (200, expected)
    assert caller.delete(path)[0] == caller.get(path)[0] == caller.get(f"{path}/messages")[0] == 404
    assert ids(caller) == []


def test_lists_page_in_both_orders():
    caller = Caller()
    made = [kept(caller, str(number))["id"] for number in range(5)]
    assert ids(caller) == made
    assert ids(caller, order="desc") == made[::-1]
    assert ids(caller, limit=2, after=made[1]) == made[2:4]
    assert caller.get("/chat/completions", limit=2)[1]["has_more"] is True
    assert caller.get("/chat/completions", limit=5)[1]["has_more"] is False
    assert caller.get("/chat/completions", after="chatcmpl-x")[0] == 400


def test_lists_are_filtered_by_model_and_by_every_pair(caller: Caller):
    both = kept(caller, metadata={"team": "a", "case": "x y/&"})["id"]
    one = kept(caller, metadata={"team": "a", "case": ""}, model="echo")["id"]
    kept(caller, metadata={"team": "b"})
    assert ids(caller, **{"metadata[team]": "a"}) == [both, one]
    assert ids(caller, **{"metadata[team]": "a", "metadata[case]": "x y/&"}) == [both]
    assert ids(caller, **{"metadata[case]": ""}) == [one]
    assert ids(caller, **{"metadata[team]": "a"}, model="echo") == [one]
    assert ids(caller, model="nobody") == []
    assert ids(caller, **{"metadata[a]]": "b"}) == []


@pytest.mark.parametrize("query", [{"metadata[a]": "\0"}, {"metadata[\0]": "a"}, {"model": "\0"}])
def test_a_filter_that_no_database_takes_is_refused(query: dict[str, str]):
    assert Caller().get("/chat/completions", **query)[0] == 400


def test_the_messages_of_a_completion_are_paged():
    caller = Caller()
    parts = [{"type": "text", "text": "hello"}]
    sent = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": parts, "name": "Ann"},
    ]
    _, answer = caller.post(
        "/chat/completions", {"model": "builtin/echo", "messages": sent, "store": True}
    )
    path = f"/chat/completions/{answer['id']}/messages"
    status, page = caller.get(path)
    first, second = page["data"]
    assert (status, page["has_more"]) == (200, False)
    assert (first["role"], first["content"], first["content_parts"]) == ("system", "Be kind.", None)
    assert (second["content"], second["content_parts"], second["name"]) == (None, parts, "Ann")
    assert caller.get(path, limit=1)[1]["has_more"] is True
    assert caller.get(path, after=first["id"])[1]["data"] == [second]
    assert caller.get(path, order="desc")[1]["data"] == [second, first]
    assert caller.get(path, after="x")[0] == caller.get(path, limit=0)[0] == 400


def test_another_account_finds_none_of_it():
    answer, stranger = kept(Caller()), Caller()
    path = f"/chat/completions/{answer['id']}"
    assert stranger.get(path)[0] == stranger.delete(path)[0] == 404
    assert stranger.post(path, {"metadata": {}})[0] == 404
    assert ids(stranger) == []
