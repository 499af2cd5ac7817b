"""Answers in packagings that no JSON parser takes, though what they say is plain."""

import gzip
import json
import zlib
from typing import Any

import orjson

# In the place of ␀, which stands for a character that the packaging makes odd.
ODD = "\N{SYMBOL FOR NULL}"


def packed(how: str, completion: bytes) -> tuple[bytes, list[str]]:
    """Return the completion as HOW packs it, and the headers that it comes with."""
    plain = completion.decode()
    if how in HEADED:
        coding, pack = HEADED[how]
        return pack(completion), [f"Content-Encoding: {coding}"]
    if how == "silent-gzip":
        return gzip.compress(completion), []
    if how == "brotli":
        return b"\x0b\x02\x80hello\x03", ["Content-Encoding: br"]
    if how == "mark":
        return b"\xef\xbb\xbf" + completion, []
    if how == "utf-16":
        return plain.encode("utf-16"), []
    if how in ESCAPES:
        return plain.replace(ODD, ESCAPES[how]).encode(), []
    if how == "latin-1":
        return completion.replace(ODD.encode(), b"\xe9"), []
    if how == "logprobs":
        return with_logprobs(orjson.loads(completion)), []
    if how == "stream":
        return streamed(orjson.loads(completion)), []
    raise ValueError(how)


HEADED = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "said-gzip": ("gzip", bytes),
}
# As they stand in the JSON: a NUL and a lone surrogate spelled out, and control characters bare.
ESCAPES = {"nul": "\\u0000", "surrogate": "\\ud83d", "bare-nul": "\0", "bare-newline": "\n"}


def with_logprobs(completion: dict[str, Any]) -> bytes:
    """The completion with numbers that Python writes and JSON has no word for."""
    unlikely = [{"token": "no", "logprob": -float("inf"), "bytes": None}]
    token = {"token": "yes", "logprob": float("nan"), "bytes": None, "top_logprobs": unlikely}
    completion["choices"][0]["logprobs"] = {"content": [token], "refusal": None}
    return json.dumps(completion).encode()


def streamed(completion: dict[str, Any]) -> bytes:
    """The completion as the events of a stream that nobody asked for."""
    choice = completion["choices"][0]
    head = {name: completion[name] for name in ("id", "created", "model")}
    said = {"index": 0, "delta": choice["message"], "finish_reason": None}
    ended = {"index": 0, "delta": {}, "finish_reason": "stop"}
    events = [
        {**head, "choices": [said]},
        {**head, "choices": [ended]},
        {**head, "choices": [], "usage": completion["usage"]},
    ]
    lines = [b"data: " + orjson.dumps(event) for event in events]
    return b": soon\n\n" + b"\n\n".join([*lines, b"data: [DONE]"]) + b"\n\n"
