"""Which addresses may be called, however they are spelled."""

import asyncio

import pytest

from apps.clients import CallFailed, ChatClient, Unlimited, UrlRefused, check_url
from apps.clients.addresses import is_public

REQUEST = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.192",
        "192.168.1.1",
        "198.18.0.1",
        "203.0.113.5",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::1",
        "2001:db8::1",
        "2001::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_an_address_that_is_not_public_is_known(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "172.32.0.1",
        "192.0.1.1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "2606:4700:4700::1111",
    ],
)
def test_an_address_that_is_public_is_let_through(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "model.example/v1",
        "ftp://model.example/v1",
        "file:///etc/passwd",
        "unix:///run/docker.sock",
        "http://",
        "http:///v1",
        "http://model.example:0/v1",
        "http://model.example:99999/v1",
        "http://[::1/v1",
        "http://user:secret@model.example/v1",
        "http://user@model.example/v1",
        "http://a..b/v1",
        f"http://{'a' * 64}.example/v1",
    ],
)
def test_a_url_that_cannot_be_called_is_refused_at_once(url):
    with pytest.raises(UrlRefused) as refused:
        check_url(url)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://model.example/v1", "https://[2606:4700::1]:8443/v1/"])
def test_a_web_address_is_accepted(url):
    assert check_url(url).host


def complete(base_url, **options):
    async def ask():
        client = ChatClient(base_url, "sk-key", Unlimited(), **options)
        try:
            return await client.complete(REQUEST)
        finally:
            await client.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "127.0.0.1.",
    ],
)
def test_no_spelling_of_a_private_address_is_connected_to(server, host):
    with pytest.raises(CallFailed) as failed:
        complete(f"http://{host}:{server.port}/v1")

    assert failed.value.code == "model_address_refused"
    assert failed.value.calls == 0
    assert server.counts()["total"] == 0


def test_a_private_address_is_called_where_the_operator_allows_it(server):
    for host in ("127.0.0.1", "localhost"):
        reply = complete(f"http://{host}:{server.port}/v1", allow_private=True)

        assert reply.body["choices"][0]["message"]["content"] == "hello"


def test_a_refusal_does_not_tell_what_a_name_resolves_to(server):
    with pytest.raises(CallFailed) as failed:
        complete(f"http://localhost:{server.port}/v1")

    assert "127.0.0.1" not in failed.value.message
