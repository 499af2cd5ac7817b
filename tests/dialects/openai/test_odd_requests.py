"""Odd paths, queries and bytes: whatever is sent is answered in the envelope, never by a fault."""

from typing import Any
from urllib.parse import quote

import pytest
from django.urls import URLPattern

from evalplatform.dialects.openai.urls import urlpatterns
from tests.dialects.openai.caller import Caller

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

ODD = ["\0", "%00", "x" * 5_000, "../x", "é 😀", "-1", "9" * 400, "';--", "eval_" + "f" * 32, "{}"]
QUERIES = ["limit", "after", "order", "status", "model", "metadata[a]", "metadata[a][b]", "page"]
BODIES = [
    b"",
    b'{"model": "m", "model": "n"}',
    "{}".encode("utf-16"),
    rb'{"model": "builtin/echo", "input": "\u0000", "messages": "\ud800"}',
    b'{"a": ' * 400 + b"1" + b"}" * 400,
]
CONTENT_TYPES = ["application/json", "text/plain", "multipart/form-data; boundary=x"]


@pytest.fixture
def caller() -> Caller:
    caller = Caller()
    caller.client.raise_request_exception = False
    return caller


def paths_of(pattern: URLPattern, ids: dict[str, str]) -> list[str]:
    """Yield the route with ids that are there, but for one of them, which is odd."""
    route = str(pattern.pattern).replace("<path:", "<str:")
    names = [name for name in ids if f"<str:{name}>" in route]
    filled = []
    for odd_one in names:
        for odd in ODD:
            path = route
            for name in names:
                value = quote(odd, safe="") if name == odd_one else ids[name]
                path = path.replace(f"<str:{name}>", value)
            filled.append(f"/v1/{path}")
    return filled


def assert_no_fault(answer: Any, *asked: Any) -> None:
    assert answer.status_code < 500, (asked, answer.content[:300])
    if answer.status_code >= 400:
        assert answer.json()["error"]["message"], asked


def test_odd_requests_are_answered(caller: Caller) -> None:
    eval_id = caller.new_eval()["id"]
    ids = {
        "eval_id": eval_id,
        "run_id": caller.new_run(eval_id)["id"],
        "completion_id": caller.new_completion()["id"],
        "item_id": "",
        "file_id": "",
        "response_id": "",
        "model": "",
    }
    routes = [str(pattern.pattern) for pattern in urlpatterns]
    for pattern in urlpatterns:
        for path in paths_of(pattern, ids):
            assert_no_fault(caller.client.get(path), path)
            assert_no_fault(caller.client.delete(path), path)
    for route in routes:
        path = f"/v1/{route}"
        for name, value in ids.items():
            path = path.replace(f"<str:{name}>", value or "x").replace(f"<path:{name}>", "x")
        for query in QUERIES:
            for odd in ODD[::2]:
                assert_no_fault(caller.client.get(path, {query: odd}), path, query, odd)
        for body in BODIES:
            for kind in CONTENT_TYPES:
                answer = caller.client.post(path, body, content_type=kind)
                assert_no_fault(answer, path, body[:50], kind)
