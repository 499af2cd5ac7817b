"""Answers over a connection, from a server that breaks every rule, in each event loop."""

import asyncio
import gzip
import socket
import time
import zlib

import pytest

from apps.clients.addresses import check_url
from apps.clients.dialing import Dialer
from apps.clients.exchanges import HEAD_BYTES, Bounds, Exchange, unpack
from apps.clients.faults import (
    NotHttp,
    NotReached,
)
from apps.clients.http_pool import HttpPool
from tests.clients.pool_client import (
    ERROR_BYTES,
    HELLO,
    OK,
    READ_BYTES,
    REPLY_BYTES,
    Client,
    always,
    answering,
    ask,
    reset,
)
from tests.patience import patience


def test_a_request_is_whole_and_its_answer_comes_back(run, raw_server):
    server = raw_server(answering(HELLO))
    client = Client(server.url())
    client.pool = HttpPool(
        client.url,
        {"Authorization": "Bearer x"},
        Bounds(REPLY_BYTES, ERROR_BYTES),
        allow_private=True,
        connect_seconds=30,
        call_seconds=30,
    )

    async def call():
        async with client:
            return await client.ask(b'{"a": 1}')

    answer = run(call())

    assert (answer.status, answer.body, answer.is_too_large) == (200, b"hello", False)
    assert server.requests == [
        b"POST /v1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer x\r\n"
        b'Content-Length: 8\r\n\r\n{"a": 1}' % server.port
    ]


def test_an_answer_may_come_byte_by_byte(run, raw_server):
    def script(peer):
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.request()
        for byte in OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n":
            peer.send(bytes([byte]))
            time.sleep(0.001)
        peer.wait_for_end()

    assert run(ask(raw_server(script).url())).body == b"hello"


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_words_before_the_answer_are_skipped(run, raw_server, interim):
    server = raw_server(answering(interim + HELLO))

    answer = run(ask(server.url()))

    assert (answer.status, answer.body) == (200, b"hello")
    assert "Link" not in answer.headers


def test_a_server_that_wants_another_protocol_has_answered_101(run, raw_server):
    upgrade = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00"
    server = raw_server(answering(upgrade))

    answer = run(ask(server.url()))

    assert (answer.status, answer.body) == (101, b"")
    assert server.has_seen_the_end()


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"\r\nhello",
        OK + b"Connection: close\r\n\r\nhello",
        OK + b"Connection: keep-alive\r\n\r\nhello",
    ],
)
def test_a_body_may_end_with_its_connection(run, raw_server, raw):
    server = raw_server(answering(raw, then_waits=False))

    async def twice():
        async with Client(server.url()) as client:
            return [(await client.ask()).body for _ in range(2)]

    assert run(twice()) == [b"hello", b"hello"]
    assert server.connections == 2


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_is_whole(run, raw_server, status):
    server = raw_server(always(b"HTTP/1.1 %d Nothing\r\n\r\n" % status))

    async def twice():
        async with Client(server.url()) as client:
            return [await client.ask() for _ in range(2)]

    assert [(one.status, one.body) for one in run(twice())] == [(status, b"")] * 2
    assert server.connections == 1


def test_headers_are_found_in_any_case(run, raw_server):
    raw = b"HTTP/1.1 429 No\r\nrEtRy-aFtEr: 3\r\nCONTENT-LENGTH: 2\r\nx:  caf\xe9 \r\n\r\nno"

    answer = run(ask(raw_server(answering(raw)).url()))

    assert (answer.status, answer.body) == (429, b"no")
    assert answer.headers["Retry-After"] == "3"
    assert answer.headers["X"].strip() == "caf\xe9"
    assert answer.headers.get("Retry-After-Ms") is None


def test_a_redirect_is_an_answer_as_any_other(run, raw_server):
    moved = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"

    assert run(ask(raw_server(answering(moved)).url())).status == 307


@pytest.mark.parametrize(
    "piece",
    [
        b"X: " + b"a" * 1_000 + b"\r\n",
        b"a" * 1_000,
        b"\r\n\r\nHTTP/1.1 100 Continue\r\nX: y",
    ],
    ids=["headers", "one header", "words before the answer"],
)
def test_a_head_without_end_is_cut(run, raw_server, piece):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 100 Continue\r\nX: ")
        peer.send_for_ever(piece)

    server = raw_server(script)

    with pytest.raises(NotHttp):
        run(ask(server.url()))
    assert server.has_seen_the_end()


@pytest.mark.parametrize(
    "headers",
    [b"X: y\r\n" * 300, b"X: " + b"y" * HEAD_BYTES + b"\r\n"],
    ids=["many", "long"],
)
def test_a_head_that_is_too_large_is_no_answer(run, raw_server, headers):
    server = raw_server(answering(OK + headers + b"Content-Length: 2\r\n\r\n{}"))

    with pytest.raises(NotHttp):
        run(ask(server.url()))


def test_a_head_of_a_usual_size_with_a_large_body_is_read(run, raw_server):
    headers = b"X: " + b"y" * 30_000 + b"\r\nContent-Length: 90000\r\n\r\n"
    server = raw_server(answering(OK + headers + b"z" * 90_000))

    assert len(run(ask(server.url())).body) == 90_000


def test_of_a_body_that_is_announced_too_large_nothing_is_read(run, raw_server):
    head = OK + b"Content-Length: %d\r\n\r\n" % (REPLY_BYTES + 1)
    server = raw_server(answering(head))

    answer = run(ask(server.url()))

    assert (answer.is_too_large, answer.body) == (True, b"")
    assert server.has_seen_the_end()


def test_a_body_of_the_size_that_is_allowed_is_read(run, raw_server):
    head = OK + b"Content-Length: %d\r\n\r\n" % REPLY_BYTES
    answer = run(ask(raw_server(answering(head + b"x" * REPLY_BYTES)).url()))

    assert (answer.is_too_large, len(answer.body)) == (False, REPLY_BYTES)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 0x1000 + b"\r\n"),
        (b"\r\n", b"x" * 0x1000),
    ],
    ids=["chunked", "until the end"],
)
def test_a_body_beyond_the_bound_is_cut_there(run, raw_server, head, piece):
    def script(peer):
        peer.request()
        peer.send(OK + head)
        peer.send_for_ever(piece)

    server = raw_server(script)

    answer = run(ask(server.url()))

    assert answer.is_too_large
    assert REPLY_BYTES < len(answer.body) <= REPLY_BYTES + READ_BYTES
    assert server.has_seen_the_end()


@pytest.mark.parametrize(
    "piece", [b"1;" + b"x" * 1_000 + b"\r\nx\r\n", b"0\r\nX: " + b"y" * 1_000_000]
)
def test_what_stands_around_a_body_has_a_bound_too(run, raw_server, piece):
    def script(peer):
        peer.request()
        peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        peer.send_for_ever(piece)

    with pytest.raises(NotHttp):
        run(ask(raw_server(script).url()))


def test_of_an_error_the_beginning_is_enough(run, raw_server):
    raw = b"HTTP/1.1 500 No\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 50_000
    server = raw_server(answering(raw))

    answer = run(ask(server.url()))

    assert answer.status == 500
    assert answer.body.startswith(b"x" * ERROR_BYTES)
    assert server.has_seen_the_end()


def deflated(data):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        (b"gzip", gzip.compress),
        (b"X-GZip", gzip.compress),
        (b"deflate", zlib.compress),
        (b"deflate", deflated),
        (b"identity", bytes),
    ],
)
def test_a_compressed_body_is_unpacked(run, raw_server, coding, pack):
    text = b"several words, several words, several words"
    packed = pack(text)
    head = OK + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(packed))

    assert run(ask(raw_server(answering(head + packed)).url())).body == text


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, deflated])
def test_a_bomb_is_unpacked_no_further_than_the_bound(run, raw_server, pack):
    packed = pack(bytes(50_000_000))
    assert len(packed) < REPLY_BYTES
    coding = b"gzip" if pack is gzip.compress else b"deflate"
    head = OK + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(packed))

    answer = run(ask(raw_server(answering(head + packed)).url()))

    assert answer.is_too_large
    assert len(answer.body) == REPLY_BYTES + 1


def test_a_body_of_exactly_the_bound_is_whole():
    assert unpack(zlib.compress(bytes(10)), zlib.MAX_WBITS, 10) == (bytes(10), True)
    assert unpack(zlib.compress(bytes(11)), zlib.MAX_WBITS, 10) == (bytes(11), False)


def test_what_only_says_that_it_is_compressed_is_no_answer(run, raw_server):
    head = b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"

    with pytest.raises(NotHttp):
        run(ask(raw_server(answering(OK + head)).url()))
    # An error is one by its status, whatever its body is.
    error = run(ask(raw_server(answering(b"HTTP/1.1 400 No\r\n" + head)).url()))
    assert (error.status, error.body) == (400, b"")


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 9xx No\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"<html>hello</html>",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        OK + b"Content-Length: five\r\n\r\nhello",
        OK + b"Content-Length: -5\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        OK + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n",
        OK + b"no colon\r\n\r\n",
    ],
)
def test_what_is_not_http_is_no_answer(run, raw_server, raw):
    server = raw_server(answering(raw))

    with pytest.raises(NotHttp):
        run(ask(server.url()))
    assert server.has_seen_the_end()


@pytest.mark.parametrize("hang_up", [lambda peer: None, reset], ids=["closed", "reset"])
@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "before an answer"),
        (b"HTTP/1.1 200 OK\r\nConte", "before an answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "before an answer"),
        (OK + b"Content-Length: 10\r\n\r\nhello", "broke off"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "broke off"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhello", "broke off"),
    ],
)
def test_half_an_answer_is_none(run, raw_server, raw, reason, hang_up):
    def script(peer):
        peer.request()
        peer.send(raw)
        time.sleep(0.05)  # the reset would overtake what was sent
        hang_up(peer)

    with pytest.raises(NotReached, match=reason):
        run(ask(raw_server(script).url()))


def test_a_body_that_ends_with_a_broken_connection_is_half_an_answer(run, raw_server):
    def script(peer):
        peer.request()
        peer.send(OK + b"\r\nhello")
        time.sleep(0.05)
        reset(peer)

    with pytest.raises(NotReached, match="broke off"):
        run(ask(raw_server(script).url()))


def test_an_exchange_that_is_over_before_it_is_asked_fails_at_once(run, raw_server):
    server = raw_server(lambda peer: None)

    async def call():
        dialer = Dialer(check_url(server.url()), allow_private=True, seconds=30)
        deadline = asyncio.get_running_loop().time() + 30
        exchange = await dialer.dial(lambda: Exchange(Bounds(1, 1)), deadline)
        await asyncio.sleep(0.2)
        await asyncio.wait_for(exchange.ask(b"GET / HTTP/1.1\r\n\r\n"), patience(2))

    with pytest.raises(NotReached):
        run(call())
