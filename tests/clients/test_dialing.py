"""Connections are made to checked addresses and to servers with checked certificates only."""

import asyncio
import socket

import pytest

from apps.clients import dialing
from apps.clients.addresses import AddressRefused
from apps.clients.dialing import Dialer
from apps.clients.faults import (
    AddressUnusual,
    CertificateRefused,
    NotReached,
)
from tests.clients.pool_client import (
    HELLO,
    OK,
    Client,
    always,
    answering,
    ask,
)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "[::1]"])
def test_a_private_address_is_never_connected_to(run, raw_server, host):
    server = raw_server(always(HELLO))

    with pytest.raises(AddressRefused):
        run(ask(server.url(host), allow_private=False))
    assert server.connections == 0


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0177.0.0.1", "127.0.0.1."])
def test_a_number_that_stands_for_an_address_is_not_called(run, host):
    with pytest.raises(AddressUnusual):
        run(ask(f"http://{host}:9/v1"))


def test_the_address_that_was_connected_to_has_the_last_word(run, raw_server, monkeypatch):
    """However the first check was deceived."""
    told = iter([True, False])
    monkeypatch.setattr(dialing, "is_public", lambda address: next(told))
    server = raw_server(lambda peer: peer.request())

    with pytest.raises(AddressRefused):
        run(ask(server.url(), allow_private=False))
    assert server.requests == []


def test_of_a_name_with_many_addresses_only_public_ones_are_tried(run, raw_server, monkeypatch):
    server = raw_server(always(HELLO), host="127.0.0.2")
    private = raw_server(always(HELLO))
    monkeypatch.setattr(dialing, "is_public", lambda address: address == "127.0.0.2")

    async def look_up(dialer):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (private.host, private.port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (server.host, server.port)),
        ]

    monkeypatch.setattr(Dialer, "_looked_up", look_up)

    assert run(ask("http://model.example/v1", allow_private=False)).body == b"hello"
    assert private.connections == 0


def test_a_name_is_looked_up_once_for_all_who_ask(run, raw_server, monkeypatch):
    server = raw_server(always(HELLO))
    look_up, looks = Dialer._looked_up, []

    async def counted(dialer):
        looks.append(1)
        return await look_up(dialer)

    monkeypatch.setattr(Dialer, "_looked_up", counted)

    async def at_once():
        async with Client(server.url("localhost")) as client:
            await asyncio.gather(*(client.ask() for _ in range(5)))

    run(at_once())
    assert looks == [1]


def test_a_look_up_outlives_the_first_who_asked(run, raw_server, monkeypatch):
    server = raw_server(always(HELLO))
    look_up = Dialer._looked_up

    async def slow(dialer):
        await asyncio.sleep(0.1)
        return await look_up(dialer)

    monkeypatch.setattr(Dialer, "_looked_up", slow)

    async def two():
        async with Client(server.url("localhost")) as client:
            first, second = (asyncio.create_task(client.ask()) for _ in range(2))
            await asyncio.sleep(0.05)
            first.cancel()
            return await second

    assert run(two()).body == b"hello"


def test_a_certificate_that_nobody_signed_is_refused(run, raw_server, tls_of):
    serving, _ = tls_of("localhost")
    server = raw_server(always(HELLO), tls=serving)

    with pytest.raises(CertificateRefused):
        run(ask(server.url("localhost")))
    assert server.requests == []


def test_a_certificate_of_another_host_is_refused(run, raw_server, tls_of, monkeypatch):
    serving, trusting = tls_of("elsewhere.example")
    monkeypatch.setattr(dialing, "trusting_authorities", lambda: trusting)
    server = raw_server(always(HELLO), tls=serving)

    for host in ("localhost", "127.0.0.1"):
        with pytest.raises(CertificateRefused):
            run(ask(server.url(host)))
    assert server.requests == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_server_whose_certificate_is_its_own_is_called(
    run, raw_server, tls_of, monkeypatch, host
):
    serving, trusting = tls_of(host)
    names = []
    serving.sni_callback = lambda _socket, name, _context: names.append(name)
    monkeypatch.setattr(dialing, "trusting_authorities", lambda: trusting)
    server = raw_server(always(HELLO), tls=serving)

    async def twice():
        async with Client(server.url(host)) as client:
            return [(await client.ask()).body for _ in range(2)]

    assert run(twice()) == [b"hello", b"hello"]
    assert server.connections == 1
    assert names == ["localhost" if host == "localhost" else None]


def test_an_answer_over_tls_that_breaks_off_is_none(run, raw_server, tls_of, monkeypatch):
    serving, trusting = tls_of("localhost")
    monkeypatch.setattr(dialing, "trusting_authorities", lambda: trusting)
    raw = OK + b"Content-Length: 10\r\n\r\nhello"
    server = raw_server(answering(raw, then_waits=False), tls=serving)

    with pytest.raises(NotReached, match="broke off"):
        run(ask(server.url("localhost")))


def test_a_server_that_speaks_no_tls_cannot_be_reached(run, raw_server):
    server = raw_server(lambda peer: peer.send(b"HTTP/1.1 400 Plain\r\n\r\n"))

    with pytest.raises(NotReached):
        run(ask(server.url().replace("http:", "https:")))
