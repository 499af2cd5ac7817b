"""What a completion tells of itself: an answer, or a failure although its status says otherwise."""

import json

import pytest

from apps.clients import RetryPolicy, Usage
from apps.clients.replies import told_failure
from tests.clients.test_chat import ask, failure

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def completion(content=None, reason="stop", fault=None, **message):
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}}
    choice["finish_reason"] = reason
    return {"choices": [choice | ({"error": fault} if fault else {})]}


def choice(**fields):
    return f"choice:{json.dumps(fields)}"


@pytest.mark.parametrize(
    ("told", "code", "word"),
    [
        (completion(reason="error"), "model_server_error", "error"),
        (completion(reason="network_error"), "model_server_error", "network_error"),
        (completion("half an", reason="network-error"), "model_server_error", "network_error"),
        (
            completion(reason="error", fault={"code": 502, "message": "upstream went away"}),
            "model_server_error",
            "upstream went away",
        ),
        (completion(reason="error", fault={"code": 429}), "model_rate_limited", "error"),
        (completion(reason="error", fault={"code": 400, "message": "no"}), "model_rejected", "no"),
        (completion(reason=None, fault={"message": "died"}), "model_server_error", "died"),
        ({**completion(), "error": "died"}, "model_server_error", "died"),
        (completion(reason="insufficient_system_resource"), "model_server_error", "resource"),
        (completion(reason="content_filter"), "content_filter", "filter"),
        (completion("", reason="content_filter: RECITATION"), "content_filter", "filter"),
        (completion(" \n", reason="sensitive"), "content_filter", "filter"),
        (completion(reason="length"), "length", "limit of tokens"),
        (completion("", reason="MAX_TOKENS", reasoning_content="hm"), "length", "limit of tokens"),
        (completion("\n\n\n", reason="model_context_window_exceeded"), "length", "limit"),
    ],
)
def test_a_failure_is_found_in_what_a_completion_says_of_its_end(told, code, word):
    found = told_failure(told)
    assert found.code == code
    assert word in found.message


@pytest.mark.parametrize(
    "answer",
    [
        completion("hello"),
        completion(""),
        completion(None, reason=None),
        completion("the beginn", reason="length"),
        completion("not all of", reason="content_filter"),
        completion(None, reason="content_filter", refusal="I cannot."),
        completion(None, reason="length", tool_calls=[CALL]),
        completion("done", fault={"message": "a note"}),
        completion([{"type": "text", "text": "said"}], reason="length"),
        completion(reason=7),
        {"choices": []},
        {"choices": [3]},
        {},
    ],
)
def test_what_says_something_is_an_answer(answer):
    assert told_failure(answer) is None


def test_a_native_reason_counts_whatever_a_gateway_made_of_it():
    told = completion("half an")
    told["choices"][0]["native_finish_reason"] = "network_error"
    assert told_failure(told).code == "model_server_error"


def test_a_broken_answer_is_asked_for_again_and_all_its_tokens_count(server):
    broken = choice(finish_reason="error", message={"content": "half an"})
    reply = ask(server.base_url, f"flaky:2:{broken}", prompt="one two")
    assert (reply.calls, reply.failure) == (3, None)
    assert reply.usage == Usage(6, 6, 12)
    assert reply.body["usage"]["total_tokens"] == 4


def test_the_last_broken_answer_is_kept_with_the_tokens_of_all(server):
    broken = choice(finish_reason="error", message={"content": "half an"})
    policy = RetryPolicy(answered_tries=2)
    failed = failure(server.base_url, broken, policy=policy)
    assert (failed.code, failed.calls) == ("model_server_error", 2)
    assert failed.body["choices"][0]["message"]["content"] == "half an"
    assert failed.usage == Usage(2, 4, 6)


@pytest.mark.parametrize(("reason", "code"), [("content_filter",) * 2, ("length",) * 2])
def test_an_answer_without_a_word_is_asked_for_again_only_where_the_server_says_so(
    server, reason, code
):
    wordless = choice(finish_reason=reason, message={"content": None})
    reply = ask(server.base_url, wordless)
    assert (reply.calls, reply.failure.code) == (1, code)
    reply = ask(server.base_url, f"flaky:1:retry-helps:{wordless}")
    assert (reply.calls, reply.failure) == (2, None)


def test_a_refusal_that_is_told_in_a_body_counts_as_its_status(server):
    policy = RetryPolicy(answered_tries=2)
    limited = failure(server.base_url, 'body:{"error": {"code": 429}}', policy=policy)
    assert (limited.code, limited.status, limited.calls) == ("model_rate_limited", 429, 2)
    refused = failure(server.base_url, 'body:{"error": {"code": 400, "message": "too long"}}')
    assert (refused.code, refused.calls) == ("model_rejected", 1)
    assert "too long" in refused.message
    rejected = choice(finish_reason="error", error={"code": 400, "message": "no"})
    assert failure(server.base_url, rejected).code == "model_rejected"
