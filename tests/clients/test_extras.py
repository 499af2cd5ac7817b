"""Additions to every request: they are sent, and what no request can carry is refused."""

import asyncio
import json
import socket
import threading
from base64 import b64encode
from contextlib import suppress

import pytest

from apps.clients import BadExtra, CallFailed, ChatClient, Extras, RetryPolicy, Unlimited, dialing

KEY = "sk-very-secret-0123456789"
HASTE = RetryPolicy(connecting_seconds=0.3, answered_tries=1, call_seconds=20)
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
COMPLETION = json.dumps({"choices": [{"message": {"content": "hi"}}]}).encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(COMPLETION), COMPLETION)


def greet(peer):
    while peer.request():
        peer.send(OK)


def ask(url, *, streams=False, **extras):
    async def complete():
        client = ChatClient(
            url, KEY, Unlimited(), allow_private=True, policy=HASTE, extras=Extras(**extras)
        )
        try:
            if streams:
                return [chunk async for chunk in client.stream(REQUEST)]
            return await client.complete(REQUEST)
        finally:
            await client.close()

    return asyncio.run(complete())


def headers_of(request):
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }


@pytest.mark.parametrize("streams", [False, True])
def test_headers_key_header_and_query_are_sent_however_the_answer_comes(raw_server, streams):
    server = raw_server(greet)
    ask(
        f"{server.url()}?a=1",
        streams=streams,
        key_header="api-key",
        headers={"X-Title": "evals"},
        secret_headers={"X-Org": "org-secret"},
        query="api-version=2024-10-21&a=2",
    )
    [request] = server.requests
    assert request.split(b" ")[1] == b"/v1/chat/completions?a=2&api-version=2024-10-21"
    sent = headers_of(request)
    assert (sent["api-key"], sent["x-title"], sent["x-org"]) == (KEY, "evals", "org-secret")
    assert "authorization" not in sent


@pytest.mark.parametrize("streams", [False, True])
def test_a_proxy_is_asked_for_what_is_not_encrypted(raw_server, streams):
    proxy = raw_server(greet)
    with_user = f"http://us%40er:pass@127.0.0.1:{proxy.port}"
    ask("http://models.invalid/v1", streams=streams, proxy=with_user)
    [request] = proxy.requests
    assert request.startswith(b"POST http://models.invalid/v1/chat/completions HTTP/1.1\r\n")
    sent = headers_of(request)
    assert sent["host"] == "models.invalid"
    assert sent["proxy-authorization"] == "Basic " + b64encode(b"us@er:pass").decode()


class Tunnel:
    """A proxy that connects to `target` whatever it is asked for, or says `refusal`."""

    def __init__(self, target, refusal=b""):
        self.asked = []
        self._target, self._refusal = target, refusal
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self):
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.asked.append(near.recv(4096))
                if self._refusal:
                    near.sendall(self._refusal)
                    near.close()
                    continue
                far = socket.create_connection(self._target)
                near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                for pair in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._pass_on, args=pair))
                    self._threads[-1].start()

    def _pass_on(self, source, sink):
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for sock in (source, sink):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
                sock.close()

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def tunnel():
    made = []

    def make(*arguments):
        made.append(Tunnel(*arguments))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_a_proxy_passes_on_what_is_encrypted_and_sees_no_key(
    raw_server, tls_of, tunnel, monkeypatch
):
    serving, trusting = tls_of("models.invalid")
    monkeypatch.setattr(dialing, "trusting_authorities", lambda: trusting)
    server = raw_server(greet, serving)
    proxy = tunnel(("127.0.0.1", server.port))
    reply = ask("https://models.invalid/v1", proxy=proxy.url.replace("//", "//me:word@"))
    assert reply.body["choices"][0]["message"]["content"] == "hi"
    [asked] = proxy.asked
    assert asked.startswith(b"CONNECT models.invalid:443 HTTP/1.1\r\n")
    assert b64encode(b"me:word") in asked
    assert KEY.encode() not in asked
    assert headers_of(server.requests[0])["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (b"HTTP/1.1 407 Who are you?\r\n\r\n", "the proxy answered 407"),
        (b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n", "the proxy answered 502"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "the proxy answered"),
        (b"HTTP/1.1 200", "does not answer as a proxy does"),
    ],
)
def test_a_proxy_that_refuses_is_told_from_a_server_that_does(tunnel, refusal, words):
    with pytest.raises(CallFailed, match=words) as failed:
        ask("https://models.invalid/v1", proxy=tunnel(("127.0.0.1", 9), refusal).url)
    assert failed.value.code == "model_unreachable"


def test_a_private_proxy_is_not_connected_to_unless_it_may_be(raw_server):
    proxy = raw_server(greet)

    async def complete():
        extras = Extras(proxy=f"http://127.0.0.1:{proxy.port}")
        client = ChatClient("http://models.invalid/v1", KEY, Unlimited(), extras=extras)
        try:
            await client.complete(REQUEST)
        finally:
            await client.close()

    with pytest.raises(CallFailed) as failed:
        asyncio.run(complete())
    assert failed.value.code == "model_address_refused"
    assert proxy.requests == []


def test_no_message_shows_a_secret(raw_server):
    def repeat(peer):
        request = peer.request()
        body = json.dumps({"error": {"message": request.decode()}}).encode()
        peer.send(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with pytest.raises(CallFailed) as failed:
        ask(raw_server(repeat).url(), key_header="k", secret_headers={"X-Token": "tok-secret"})
    assert "tok-secret" not in str(failed.value)
    assert KEY not in str(failed.value)
    assert "[secret]" in str(failed.value)


@pytest.mark.parametrize(
    ("extras", "setting"),
    [
        ({"key_header": "api key"}, "key_header"),
        ({"key_header": "Host"}, "key_header"),
        ({"headers": {"X-A\r\nX-B": "1"}}, "headers"),
        ({"headers": {"X-A": "1\r\nX-B: 2"}}, "headers"),
        ({"headers": {"X-A": "ключ"}}, "headers"),
        ({"headers": {"Content-Length": "1"}}, "headers"),
        ({"headers": {"authorization": "Basic x"}}, "headers"),
        ({"headers": {"X-A": "1"}, "secret_headers": {"x-a": "2"}}, "secret_headers"),
        ({"headers": {f"X-{number}": "1" for number in range(33)}}, "headers"),
        ({"query": "a=1 b"}, "query"),
        ({"query": "a=1#b"}, "query"),
        ({"proxy": "proxy.example.com:3128"}, "proxy"),
        ({"proxy": "https://proxy.example.com"}, "proxy"),
        ({"proxy": "socks5://127.0.0.1:1"}, "proxy"),
    ],
)
def test_what_no_request_can_carry_is_refused_by_its_setting(extras, setting):
    with pytest.raises(BadExtra) as refused:
        ChatClient("https://models.example.com/v1", None, Unlimited(), extras=Extras(**extras))
    assert refused.value.setting == setting


def test_an_authorization_of_its_own_goes_beside_a_key_elsewhere(raw_server):
    server = raw_server(greet)
    ask(server.url(), key_header="api-key", secret_headers={"Authorization": "Basic dTpw"})
    sent = headers_of(server.requests[0])
    assert (sent["authorization"], sent["api-key"]) == ("Basic dTpw", KEY)
