"""Answers in pieces: read off the wire, put together, taken apart, and asked of a real server."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.clients import CallFailed, ChatClient, Echo, RetryPolicy, Unlimited
from apps.clients.streams import (
    Assembly,
    EventTooLong,
    chunks_of,
    is_chunk,
    read_events,
)

CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}


def completion(*choices):
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": None, "refusal": None, **message},
                "finish_reason": "stop",
            }
            for index, message in enumerate(choices)
        ],
    }


def assembled(chunks):
    assembly = Assembly()
    for chunk in chunks:
        assembly.add(chunk)
    return assembly


async def pieces_of(data, size):
    for start in range(0, len(data), size):
        yield data[start : start + size]


def events(data, size=3, limit=1_000):
    async def read():
        return [event async for event in read_events(pieces_of(data, size), limit)]

    return asyncio.run(read())


@given(st.lists(st.text("ab\u00e9 {}", min_size=1), max_size=5), st.integers(1, 40))
def test_events_are_the_same_however_the_stream_is_cut(texts, size):
    data = "".join(f": hello\r\ndata: {text}x\r\n\r\n" for text in texts).encode()
    assert events(data, size) == [f"{text}x".strip().encode() for text in texts]


def test_a_last_event_need_not_end():
    assert events(b"data: 1\n\nevent: x\ndata:2") == [b"1", b"2"]


def test_an_event_without_end_is_not_held_in_memory():
    with pytest.raises(EventTooLong):
        events(b"data: " + b"x" * 5_000)


@given(st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_a_completion_taken_apart_and_put_together_is_the_same(texts):
    whole = completion(*({"content": text} for text in texts))
    assert assembled(chunks_of(whole)).completion() == whole


def test_tool_calls_are_joined_by_their_index():
    def delta(**fields):
        return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}

    opening = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "add"}}
    assembly = assembled(
        [
            delta(role="assistant", tool_calls=[opening]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}]),
        ]
    )
    assert assembly.completion()["choices"][0]["message"]["tool_calls"] == [CALL]
    assert not assembly.is_complete
    whole = completion({"tool_calls": [CALL]})
    assert assembled(chunks_of(whole)).completion() == whole


@pytest.mark.parametrize(
    "chunk",
    [
        {},
        {"choices": None},
        {"choices": [{"delta": None}]},
        {"choices": [{"index": "a"}]},
        {"choices": [{"delta": {"tool_calls": ["x", {"index": 10**9}, {"function": 5}]}}]},
        {"choices": [{"delta": {"content": 5, "tool_calls": 6}}]},
        {"choices": [{"delta": {"content": "x", "tool_calls": [{}]}}]},
    ],
)
def test_an_odd_chunk_breaks_nothing(chunk):
    assert is_chunk(chunk)
    odd = {"choices": [{"delta": {"content": 5, "tool_calls": 6}}]}
    assembled([odd, chunk, chunk]).completion()


@pytest.mark.parametrize(
    "value", [None, 5, [], {"choices": 5}, {"choices": ["x"]}, {"choices": [{"delta": "x"}]}]
)
def test_other_shapes_are_no_chunks(value):
    assert not is_chunk(value)


def stream(base_url, model="echo", **options):
    async def chunks():
        policy = RetryPolicy(call_seconds=5, **options)
        client = ChatClient(base_url, "key", Unlimited(), allow_private=True, policy=policy)
        request = {"model": model, "messages": [{"role": "user", "content": "one two three"}]}
        try:
            return [chunk async for chunk in client.stream(request)]
        finally:
            await client.close()

    return asyncio.run(chunks())


@pytest.mark.parametrize("model", ["echo", "whole"])
def test_an_answer_comes_in_chunks_also_where_the_server_cannot(server, model):
    assembly = assembled(stream(server.base_url, model))
    assert assembly.is_complete
    whole = assembly.completion()
    assert whole["choices"][0]["message"]["content"] == "one two three"
    assert whole["model"] == model


def test_a_streamed_answer_tells_what_it_took(server):
    chunks = stream(server.base_url)
    assert len(chunks) == 6
    assert assembled(chunks).completion()["usage"]["total_tokens"] == 6


@pytest.mark.parametrize(
    ("model", "code", "status"),
    [
        ("status-404", "model_rejected", 404),
        ("status-429", "model_rate_limited", 429),
        ("status-500", "model_server_error", 500),
        ("garbage", "model_reply_invalid", 200),
        ("not-http", "model_reply_invalid", None),
        ("reset", "model_unreachable", None),
    ],
)
def test_a_stream_that_never_begins_says_why_and_is_not_asked_for_again(
    server, model, code, status
):
    with pytest.raises(CallFailed) as failed:
        stream(server.base_url, model)
    assert (failed.value.code, failed.value.status) == (code, status)
    assert server.counts()["total"] == 1


def test_a_stream_that_breaks_off_is_not_complete(server):
    assert not assembled(stream(server.base_url, "breaks-off")).is_complete


def test_a_built_in_model_streams_too():
    async def chunks():
        request = {"messages": [{"role": "user", "content": "hi"}]}
        return [chunk async for chunk in Echo().stream(request)]

    whole = assembled(asyncio.run(chunks())).completion()
    assert whole["choices"][0]["message"]["content"] == "hi"
