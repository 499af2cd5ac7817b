"""Bodies that come in chunks, without a length, are read whole, or refused."""

import io
import json
from http.client import HTTPConnection
from typing import Any

import pytest
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections

from evalplatform.bodies import measured
from tests.dialects.installed import needs
from tests.factories import make_key
from tests.patience import patience
from tests.shared_server import Platform

BOUNDARY = "boundary"
# Bodies of both kinds are read by this dialect.
through_openai = needs("openai")
CHECK = {"type": "string_check", "operation": "eq", "input": "a", "reference": "a"}
EVAL = {
    "name": "Tickets",
    "data_source_config": {"type": "custom", "item_schema": {"type": "object"}},
    "testing_criteria": [{**CHECK, "name": "same"}],
}


def chunks_of(body: bytes, size: int = 700) -> Any:
    return (body[start : start + size] for start in range(0, len(body), size))


def form_of(content: bytes) -> bytes:
    fields = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nevals\r\n'
    file = (
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
        'name="file"; filename="rows.jsonl"\r\n\r\n'
    )
    return fields.encode() + file.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture
def key(db) -> str:
    return make_key()[1]


def environ_of(path: str, body: bytes, kind: str, **headers: Any) -> dict[str, Any]:
    """The request as a server hands it on that tells where a body ends."""
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.errors": io.StringIO(),
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "CONTENT_TYPE": kind,
        "HTTP_TRANSFER_ENCODING": "chunked",
        **headers,
    }


@pytest.fixture
def serve(db):
    """The application as a server calls it; as with Django's own test client its signals leave
    the test's database connection open.
    """

    def serve(environ: dict[str, Any]) -> tuple[int, bytes]:
        told: list[str] = []
        application: Any = measured(get_wsgi_application())
        answer = application(environ, lambda status, _: told.append(status))
        body = b"".join(answer)
        answer.close()
        return int(told[0].split()[0]), body

    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield serve
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture
def call(serve, key):
    def call(path: str, body: bytes, kind: str, **headers: Any) -> tuple[int, Any]:
        authorization = {"HTTP_AUTHORIZATION": f"Bearer {key}"}
        status, answer = serve(environ_of(path, body, kind, **authorization, **headers))
        return status, json.loads(answer)

    return call


@through_openai
def test_json_without_a_length_is_read_whole(call):
    status, made = call("/v1/evals", json.dumps(EVAL).encode(), "application/json")
    assert (status, made["name"]) == (201, EVAL["name"])


@through_openai
def test_a_form_without_a_length_is_read_whole(call):
    content = b'{"item": {"text": "a"}}\n' * 5_000
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    status, made = call("/v1/files", form_of(content), kind)
    assert (status, made["bytes"]) == (200, len(content))


@through_openai
def test_a_body_of_unsaid_length_may_come_by_http_2(call):
    sent = json.dumps(EVAL).encode()
    headers = {"HTTP_TRANSFER_ENCODING": "", "SERVER_PROTOCOL": "HTTP/2.0"}
    assert call("/v1/evals", sent, "application/json", **headers)[0] == 201


@through_openai
def test_chunks_that_hold_nothing_are_no_body(call):
    status, refused = call("/v1/evals", b"", "application/json")
    assert (status, refused["error"]["code"]) == (400, "missing_required_parameter")


@through_openai
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/evals", "application/json"),
        ("/v1/files", f"multipart/form-data; boundary={BOUNDARY}"),
    ],
)
def test_a_body_that_never_ends_is_refused_at_the_limit(call, settings, path, kind):
    settings.MAX_BODY_BYTES = settings.MAX_UPLOAD_BYTES = 5_000
    whole = form_of(b"x" * 10_000) if path == "/v1/files" else b'"' + b"x" * 10_000 + b'"'
    status, refused = call(path, whole, kind)
    assert (status, refused["error"]["message"]) == (
        413,
        "The body is larger than the limit of 4,999 bytes.",
    )


@through_openai
def test_where_the_server_does_not_say_where_a_body_ends_its_length_is_asked_for(call):
    sent = json.dumps(EVAL).encode()
    status, refused = call(
        "/v1/evals", sent, "application/json", **{"wsgi.input_terminated": False}
    )
    assert (status, refused["error"]["type"]) == (411, "invalid_request_error")


def test_a_page_that_is_sent_too_much_refuses_it(serve, settings):
    settings.MAX_BODY_BYTES = 100
    form = "application/x-www-form-urlencoded"
    status, _ = serve(environ_of("/app/sign-in/", b"email=" + b"x" * 1_000, form))
    assert 400 <= status < 500


@through_openai
@pytest.mark.slow
def test_a_served_instance_reads_chunks(platform: Platform):
    host = platform.served.base_url.removeprefix("http://")
    for body, kind, path, wanted in (
        (json.dumps(EVAL).encode(), "application/json", "/v1/evals", 201),
        (
            form_of(b'{"item": {}}\n' * 100_000),
            f"multipart/form-data; boundary={BOUNDARY}",
            "/v1/files",
            200,
        ),
    ):
        connection = HTTPConnection(host, timeout=patience(20))
        headers = {"Authorization": f"Bearer {platform.key}", "Content-Type": kind}
        connection.request("POST", path, chunks_of(body), headers, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == wanted, answer.read()
        connection.close()
