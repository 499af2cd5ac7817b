"""Embeddings through the wire: of texts and tokens, as numbers and in base64."""

import base64
import struct
from typing import Any

import pytest

from tests.dialects.openai.caller import Caller
from tests.factories import make_endpoint
from tests.model_server import ModelServer

pytestmark = pytest.mark.django_db


@pytest.fixture
def caller(server: ModelServer) -> Caller:
    caller = Caller()
    models = ["vectors", "one-vector", "status-429"]
    make_endpoint(caller.actor, server.base_url, models=["chatty"], embedding_models=models)
    return caller


def embed(caller: Caller, texts: Any, **fields: Any) -> tuple[int, Any]:
    return caller.post("/embeddings", {"model": "vectors", "input": texts, **fields})


def test_texts_get_their_vectors_in_order_with_what_the_server_counted(caller: Caller):
    status, answer = embed(caller, ["[1, 2]", "[3, 4]"])
    assert status == 200, answer
    assert answer == {
        "object": "list",
        "model": "vectors",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [1, 2]},
            {"object": "embedding", "index": 1, "embedding": [3, 4]},
        ],
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }


@pytest.mark.parametrize(
    ("texts", "vectors"), [("[1, 2]", 1), ([5, 7], 1), ([[5], [7, 8]], 2), (["a", "b", "c"], 3)]
)
def test_a_text_may_be_alone_or_the_numbers_of_its_tokens(caller: Caller, texts: Any, vectors: int):
    status, answer = embed(caller, texts, dimensions=4, user="someone", encoding_format="float")
    assert (status, len(answer["data"])) == (200, vectors), answer


def test_base64_holds_floats_of_32_bits(caller: Caller):
    _, answer = embed(caller, "[0.5, -2, 1e300]", encoding_format="base64")
    packed = base64.b64decode(answer["data"][0]["embedding"])
    assert struct.unpack("<3f", packed)[:2] == (0.5, -2.0)
    assert struct.unpack("<3f", packed)[2] > 3e38


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", 5]}, "input[1]"),
        ({"input": [[5], ["a"]]}, "input[1][0]"),
        ({"input": ["a"] * 2_049}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
    ],
)
def test_a_bad_request_is_refused_with_its_field(
    caller: Caller, fields: dict[str, Any], param: str
):
    status, answer = embed(caller, fields.pop("input", "text"), **fields)
    assert (status, answer["error"]["param"]) == (400, param), answer


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("nobody", 404, "model_not_found"),
        ("chatty", 404, "model_not_found"),
        ("one-vector", 502, "model_reply_invalid"),
        ("status-429", 429, "rate_limit_exceeded"),
    ],
)
def test_what_a_server_cannot_do_is_told(caller: Caller, model: str, status: int, code: str):
    found, answer = embed(caller, ["a", "b"], model=model)
    assert (found, answer["error"]["code"]) == (status, code), answer
