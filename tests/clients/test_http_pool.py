"""Calls over kept connections: their time, their end, their next use, in each event loop."""

import asyncio
import time

import pytest

from apps.clients import http_pool
from apps.clients.faults import (
    CallTimedOut,
    NotReached,
)
from tests.clients.pool_client import (
    HELLO,
    OK,
    SHORT,
    Client,
    always,
    answering,
    ask,
)
from tests.patience import patience


@pytest.mark.parametrize("opening", [b"", b"HTTP/1.1 200 OK\r\n", OK + b"\r\n"])
def test_an_answer_that_drips_is_cut_when_its_time_is_over(run, raw_server, opening):
    def script(peer):
        peer.request()
        peer.send(opening)
        peer.send_for_ever(b"X" if opening else b"\r\n", pause=0.02)

    server = raw_server(script)
    began = time.monotonic()

    with pytest.raises(CallTimedOut):
        run(ask(server.url(), call_seconds=SHORT))
    assert SHORT <= time.monotonic() - began < patience(2)
    assert server.has_seen_the_end()


def test_a_tls_handshake_that_hangs_is_no_connection(run, raw_server):
    server = raw_server(lambda peer: peer.wait_for_end())
    url = server.url().replace("http:", "https:")

    with pytest.raises(NotReached, match="no connection in time"):
        run(ask(url, connect_seconds=SHORT))
    assert server.has_seen_the_end()
    with pytest.raises(CallTimedOut):
        run(ask(url, call_seconds=SHORT))


def test_a_call_that_is_cancelled_closes_its_connection_at_once(run, raw_server):
    server = raw_server(answering(b"", OK))

    async def cancel():
        async with Client(server.url()) as client:
            call = asyncio.create_task(client.ask())
            while not server.requests:
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await asyncio.to_thread(server.has_seen_the_end)
            assert not client.pool._open

    run(cancel())


def test_a_connection_is_kept_for_the_next_call(run, raw_server):
    server = raw_server(always(HELLO))

    async def often():
        async with Client(server.url()) as client:
            for _ in range(5):
                await client.ask()
            await asyncio.gather(*(client.ask() for _ in range(3)))

    run(often())

    assert server.connections == 3
    assert len(server.requests) == 8


def test_a_connection_that_the_server_closed_meanwhile_is_not_used(run, raw_server):
    server = raw_server(answering(HELLO, then_waits=False))

    async def twice():
        async with Client(server.url()) as client:
            await client.ask()
            await asyncio.sleep(0.2)
            return await client.ask()

    assert run(twice()).body == b"hello"
    assert (server.connections, len(server.requests)) == (2, 2)


def test_a_connection_that_closed_while_nobody_looked_is_not_used(run, raw_server, monkeypatch):
    monkeypatch.setattr(http_pool, "LOOK_AFTER_SECONDS", 0.1)
    server = raw_server(answering(HELLO, then_waits=False))

    async def twice():
        async with Client(server.url()) as client:
            await client.ask()
            time.sleep(0.3)
            return await client.ask()

    assert run(twice()).body == b"hello"
    assert (server.connections, len(server.requests)) == (2, 2)


def test_a_request_that_may_have_come_through_is_not_repeated(run, raw_server):
    def script(peer):
        peer.request()
        peer.send(HELLO)
        peer.request()

    server = raw_server(script)

    async def twice():
        async with Client(server.url()) as client:
            await client.ask()
            with pytest.raises(NotReached):
                await client.ask()

    run(twice())

    assert (server.connections, len(server.requests)) == (1, 2)


@pytest.mark.parametrize(
    "raw",
    [
        HELLO.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"),
        HELLO + HELLO,
        HELLO + b"HTTP/1.1 2",
        HELLO + b"nonsense",
    ],
    ids=["close", "two answers", "half an answer", "nonsense"],
)
def test_a_connection_is_not_kept_after(run, raw_server, raw):
    server = raw_server(answering(raw))

    async def twice():
        async with Client(server.url()) as client:
            return [(await client.ask()).body for _ in range(2)]

    assert run(twice()) == [b"hello", b"hello"]
    assert server.connections == 2


def test_a_server_that_speaks_unasked_is_hung_up_on(run, raw_server):
    def script(peer):
        peer.request()
        peer.send(HELLO)
        time.sleep(0.05)
        peer.send(b"HTTP/1.1 408 Too late\r\nContent-Length: 0\r\n\r\n")
        peer.wait_for_end()

    server = raw_server(script)

    async def twice():
        async with Client(server.url()) as client:
            first = await client.ask()
            assert await asyncio.to_thread(server.has_seen_the_end)
            return first, await client.ask()

    assert [answer.status for answer in run(twice())] == [200, 200]


def test_a_server_that_answers_before_it_has_read_all_is_not_asked_again(run, raw_server):
    def script(peer):
        peer.socket.recv(1)
        peer.send(b"HTTP/1.1 413 Too much\r\nContent-Length: 0\r\n\r\n")
        time.sleep(0.5)

    server = raw_server(script)

    async def once():
        async with Client(server.url()) as client:
            answer = await client.ask(b"x" * 20_000_000)
            assert not client.pool._idle
            return answer

    assert run(once()).status == 413


def test_idle_connections_are_few_and_do_not_wait_for_ever(run, raw_server, monkeypatch):
    monkeypatch.setattr(http_pool, "IDLE_MAX", 2)
    monkeypatch.setattr(http_pool, "IDLE_SECONDS", 0.3)

    def script(peer):
        peer.request()
        time.sleep(0.1)
        peer.send(HELLO)
        peer.wait_for_end()

    server = raw_server(script)

    async def at_once():
        async with Client(server.url()) as client:
            await asyncio.gather(*(client.ask() for _ in range(4)))
            assert len(client.pool._idle) == 2
            for _ in range(4):
                assert await asyncio.to_thread(server.has_seen_the_end)
            assert not client.pool._open

    run(at_once())


def test_a_kept_connection_keeps_no_answer(run, raw_server):
    raw = OK + b"Content-Length: 90000\r\n\r\n" + b"x" * 90_000
    server = raw_server(answering(raw))

    async def once():
        async with Client(server.url()) as client:
            answer = await client.ask()
            [(exchange, _)] = client.pool._idle
            held = [value for value in vars(exchange).values() if value]
            assert not any(value is answer or value is answer.body for value in held)
            assert not exchange._pieces
            assert exchange._waiter is None

    run(once())


def test_closing_a_pool_ends_the_calls_that_are_under_way(run, raw_server):
    server = raw_server(lambda peer: (peer.request(), peer.wait_for_end()))

    async def close():
        client = Client(server.url())
        call = asyncio.create_task(client.ask())
        while not server.requests:
            await asyncio.sleep(0.01)
        await client.pool.close()
        with pytest.raises(NotReached):
            await call

    run(close())
    assert server.has_seen_the_end()
