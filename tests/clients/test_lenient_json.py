"""What is badly packed is read, what cannot be stored replaced, and both are told."""

import gzip
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.clients.lenient_json import read_leniently
from apps.strict_json import BadJSON, dump_json
from tests.json_values import VALUES

LIMIT = 1024 * 1024


def read(content):
    return read_leniently(content, LIMIT)


@pytest.mark.parametrize(
    ("content", "value", "cleaned"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}, "a byte order mark"),
        ('{"a": "é"}'.encode("utf-16"), {"a": "é"}, "a byte order mark"),
        ('{"a": "é"}'.encode("utf-32"), {"a": "é"}, "a byte order mark"),
        (b'{"a": "x\\u0000y\\u0000"}', {"a": "x�y�"}, "2 NUL characters"),
        (b'{"a": "x\0y"}', {"a": "x�y"}, "1 NUL characters"),
        (b'{"a\\u0000": 1}', {"a�": 1}, "1 NUL characters"),
        (b'{"a": "\\ud83d!"}', {"a": "�!"}, "1 lone surrogates"),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}, ""),
        (b'{"a": "caf\xe9"}', {"a": "caf�"}, "1 bytes that are no UTF-8"),
        (b'{"a": "one\ntwo\t"}', {"a": "one\ntwo\t"}, ""),
        (b'{"a": 1}\0\0', {"a": 1}, ""),
        (
            b'[{"logprob": -Infinity, "x": NaN}, Infinity, 1e999]',
            [{"logprob": -9999.0, "x": None}, None, None],
            "4 numbers that JSON has no word for",
        ),
        (gzip.compress(b'{"a": 1}', mtime=0), {"a": 1}, "gzip that no header told of"),
        (b'{"a": 123456789012345678901234567890}', {"a": 123456789012345678901234567890}, ""),
    ],
)
def test_what_it_says_is_kept_and_what_was_cleaned_is_told(content, value, cleaned):
    assert read(content) == (value, cleaned)


def test_a_stream_that_nobody_asked_for_is_put_together():
    def event(**choice):
        return b"data: " + json.dumps({"id": "c", "choices": [{"index": 0, **choice}]}).encode()

    content = b"\n\n".join(
        [
            b": waiting",
            event(delta={"role": "assistant", "content": "one "}),
            event(delta={"content": "two\0"}),
            event(delta={}, finish_reason="stop"),
            b'data: {"choices": [], "usage": {"total_tokens": 3}}',
            b"data: [DONE]",
        ]
    )
    completion, cleaned = read(content)
    assert completion["choices"][0]["message"]["content"] == "one two�"
    assert completion["usage"] == {"total_tokens": 3}
    assert cleaned == "a stream, although one piece was asked for, 1 NUL characters"
    with pytest.raises(BadJSON, match="ends before"):
        read(event(delta={"content": "one "}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>Hello</html>",
        b'{"a": 1',
        b"\x1f\x8bnonsense",
        gzip.compress(b'{"a": "%b"}' % (b"x" * 2 * LIMIT), mtime=0),
        b"[" * 200 + b"]" * 200,
        b"[" * 100_000,
        b"9" * 10_000,
        b"data: nonsense",
    ],
)
def test_what_says_nothing_is_no_json(content):
    with pytest.raises(BadJSON):
        read(content)


@given(VALUES)
def test_what_is_well_packed_stays_as_it_is(value):
    assert read(dump_json(value).encode()) == (value, "")


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_whatever_a_text_holds_can_be_stored_afterwards(text):
    value, _ = read(json.dumps({"a": text}).encode())
    assert "\0" not in orjson.dumps(value).decode()
