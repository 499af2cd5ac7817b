"""The chat client against a real server that misbehaves in every way a model server can."""

import asyncio
import contextlib
import gzip
import socket
import time

import pytest

from apps.clients import CallFailed, ChatClient, Limiter, RetryPolicy, Stopped, Unlimited, Usage
from tests.model_server import running, start
from tests.patience import patience

KEY = "sk-very-secret-0123456789"
QUICK = RetryPolicy(
    connecting_seconds=1.5,
    answered_seconds=6,
    call_seconds=0.5,
    connect_seconds=0.3,
    slot_seconds=0.3,
)


class Slots(asyncio.Semaphore, Limiter):
    """A limiter of a known number of slots that tells how many are taken and were ever taken."""

    def __init__(self, slots=1):
        super().__init__(slots)
        self.held = 0
        self.ever_held = 0

    async def acquire(self):
        await super().acquire()
        self.held += 1
        self.ever_held += 1

    def release(self):
        self.held -= 1
        super().release()


def request(model="echo", prompt="hello"):
    return {"model": model, "messages": [{"role": "user", "content": prompt}]}


@contextlib.asynccontextmanager
async def client_of(base_url, key=KEY, limiter=None, **options):
    options = {"allow_private": True, "policy": QUICK} | options
    client = ChatClient(base_url, key, limiter or Unlimited(), **options)
    try:
        yield client
    finally:
        await client.close()


def ask(base_url, model="echo", prompt="hello", **options):
    async def complete():
        async with client_of(base_url, **options) as client:
            return await client.complete(request(model, prompt))

    return asyncio.run(complete())


def failure(base_url, model="echo", **options):
    with pytest.raises(CallFailed) as failed:
        ask(base_url, model, **options)
    return failed.value


def content(reply):
    return reply.body["choices"][0]["message"]["content"]


@pytest.fixture
def closed_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        yield held.getsockname()[1]


@pytest.fixture
def answer(raw_server):
    """Answer every connection with the given bytes and close it; the base URL."""

    def serve(raw):
        return raw_server(lambda peer: peer.request() and peer.send(raw)).url()

    return serve


def test_a_reply_has_its_body_its_usage_and_one_call(server):
    reply = ask(server.base_url, prompt="three little words")

    assert content(reply) == "three little words"
    assert reply.usage == Usage(3, 3, 6, 0)
    assert reply.calls == 1
    assert server.counts()["prompts"] == {"three little words": 1}


def test_text_of_any_language_comes_back_unchanged(server):
    text = 'Grüße 你好 🎈 \u2028 \\ " \t'

    assert content(ask(server.base_url, prompt=text)) == text


@pytest.mark.parametrize("base", ["/v1", "/v1/"])
def test_the_base_url_may_end_in_a_slash(server, base):
    assert content(ask(server.url + base)) == "hello"


def test_a_query_of_the_base_url_is_kept():
    async def complete():
        asked = []

        async def listen(reader, writer):
            with contextlib.closing(writer):
                asked.append(await reader.readline())
                writer.write(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()

        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1?api-version=2"
        async with server, client_of(base_url) as client:
            with pytest.raises(CallFailed):
                await client.complete(request())
        return asked

    assert asyncio.run(complete()) == [b"POST /v1/chat/completions?api-version=2 HTTP/1.1\r\n"]


def test_the_key_is_sent_and_a_wrong_one_is_rejected_without_another_try():
    with running(api_key=KEY) as server:
        assert content(ask(server.base_url, key=f"{KEY}\n")) == "hello"

        failed = failure(server.base_url, key="sk-wrong")
        assert (failed.code, failed.status, failed.calls) == ("model_server_refused", 401, 1)
        assert failure(server.base_url, key=None).status == 401


@pytest.mark.parametrize("key", ["sk-\r\nX-Evil: 1", "sk-ключ", "sk 1"])
def test_a_key_that_cannot_be_a_header_is_refused_without_being_shown(key):
    with pytest.raises(ValueError, match="API key") as refused:
        ChatClient("https://model.example/v1", key, Unlimited())

    assert key not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("fail-500", "model_server_error"),
        ("fail-503", "model_server_error"),
        ("status-429", "model_rate_limited"),
        ("status-408", "model_timeout"),
    ],
)
def test_a_server_that_keeps_refusing_is_asked_no_more_than_five_times(server, model, code):
    policy = RetryPolicy(answered_tries=5)
    failed = failure(server.base_url, f"{model}-retry-after-ms:10", policy=policy)

    assert (failed.code, failed.calls) == (code, 5)
    assert failed.status == int(model[-3:])
    assert server.counts()["total"] == 5


def test_refusals_end_when_their_time_is_over(server):
    policy = RetryPolicy(answered_tries=1000, answered_seconds=0.5)
    failed = failure(server.base_url, "status-500-retry-after-ms:100", policy=policy)

    # Five fit in; the slower the machine, the fewer.
    assert 1 <= failed.calls <= 6


@pytest.mark.parametrize("how", ["fail-500", "reset", "truncate", "status-429", "not-http"])
def test_an_item_survives_a_passing_fault(server, how):
    reply = ask(server.base_url, f"flaky:1:{how}")

    assert content(reply) == "hello"
    assert reply.calls == 2


def test_several_passing_faults_are_survived_together(server):
    async def complete():
        async with client_of(server.base_url) as client:
            prompts = [f"prompt {n}" for n in range(64)]
            replies = await asyncio.gather(
                *(client.complete(request("flaky:2:reset", prompt)) for prompt in prompts)
            )
            return prompts, replies

    prompts, replies = asyncio.run(complete())

    assert [content(reply) for reply in replies] == prompts
    assert {reply.calls for reply in replies} == {3}
    assert server.counts()["prompts"] == dict.fromkeys(prompts, 3)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("retry-after:1", 1.0), ("retry-after-ms:400", 0.4), ("retry-after:date:2", 1.0)],
)
def test_what_the_server_asks_to_wait_is_waited(server, header, seconds):
    began = time.monotonic()
    reply = ask(server.base_url, f"flaky:1:status-429-{header}", policy=RetryPolicy())
    took = time.monotonic() - began

    assert reply.calls == 2
    assert seconds <= took < seconds + patience(1.5)


def test_a_server_that_asks_for_too_long_is_not_waited_for(server):
    began = time.monotonic()
    failed = failure(server.base_url, "status-429-retry-after:60")

    assert (failed.code, failed.calls) == ("model_rate_limited", 1)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
def test_a_rejected_request_is_not_repeated(server, status):
    failed = failure(server.base_url, f"status-{status}")

    code = "model_server_refused" if status in (401, 403) else "model_rejected"
    assert (failed.code, failed.status, failed.calls) == (code, status, 1)
    assert failed.message == f"The model server answered {status}: answered {status} as asked"


def test_a_redirect_is_not_followed(server):
    failed = failure(server.base_url, "redirect")

    assert (failed.code, failed.status, failed.calls) == ("model_rejected", 307, 1)


def test_a_server_that_is_not_there_is_tried_until_its_time_is_over(closed_port):
    began = time.monotonic()
    failed = failure(f"http://127.0.0.1:{closed_port}/v1")
    took = time.monotonic() - began

    assert (failed.code, failed.status) == ("model_unreachable", None)
    assert failed.calls >= 3
    assert 0.5 <= took <= patience(1.6)
    assert "connection refused" in failed.message


def test_a_server_that_comes_back_costs_no_item():
    async def complete():
        server = start()
        async with client_of(server.base_url, policy=RetryPolicy()) as client:
            await client.complete(request())
            server.stop()
            waiting = [asyncio.create_task(client.complete(request())) for _ in range(20)]
            await asyncio.sleep(1)
            server = await asyncio.to_thread(start, port=server.port)
            try:
                return await asyncio.gather(*waiting)
            finally:
                server.stop()

    replies = asyncio.run(complete())

    assert [content(reply) for reply in replies] == ["hello"] * 20
    assert min(reply.calls for reply in replies) > 1


def test_a_name_that_does_not_resolve_is_unreachable(monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    failed = failure("http://nothing.invalid/v1")

    assert failed.code == "model_unreachable"
    assert failed.calls > 1
    assert "does not resolve" in failed.message


def test_a_connection_that_is_never_accepted_ends_in_time():
    with socket.socket() as listener, socket.socket() as filler, socket.socket() as more:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)  # the queue is full after one or two
        for waiting in (filler, more):
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        began = time.monotonic()
        failed = failure(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")

    assert failed.code in {"model_unreachable", "model_timeout"}
    assert time.monotonic() - began < patience(2.5)


def test_a_server_whose_certificate_is_unknown_is_not_talked_to(tls_of):
    async def complete():
        async def talk(reader, writer):
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls_of("127.0.0.1")[0])
        port = server.sockets[0].getsockname()[1]
        async with (
            server,
            client_of(f"https://127.0.0.1:{port}/v1", policy=RetryPolicy()) as client,
        ):
            with pytest.raises(CallFailed) as failed:
                await client.complete(request())
            return failed.value

    failed = asyncio.run(complete())

    assert (failed.code, failed.calls) == ("model_unreachable", 1)
    assert "certificate" in failed.message


def test_a_call_that_hangs_is_cut_and_not_repeated(server):
    began = time.monotonic()
    failed = failure(server.base_url, "hang")

    assert (failed.code, failed.calls) == ("model_timeout", 1)
    assert 0.4 < time.monotonic() - began < patience(1.5)
    assert server.counts()["total"] == 1


def test_an_answer_that_drips_is_cut_like_one_that_hangs():
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"

    async def complete():
        async def drip(reader, writer):
            with contextlib.suppress(ConnectionError), contextlib.closing(writer):
                writer.write(raw)
                while True:
                    writer.write(b"1\r\n \r\n")
                    await writer.drain()
                    await asyncio.sleep(0.05)

        dripping = await asyncio.start_server(drip, "127.0.0.1", 0)
        port = dripping.sockets[0].getsockname()[1]
        async with dripping, client_of(f"http://127.0.0.1:{port}/v1") as client:
            with pytest.raises(CallFailed) as failed:
                await client.complete(request())
            return failed.value

    assert asyncio.run(complete()).code == "model_timeout"


def test_a_reply_as_large_as_allowed_is_read(server):
    policy = RetryPolicy(reply_bytes=100_500)

    assert len(content(ask(server.base_url, "huge:100000", policy=policy))) == 100_000


@pytest.mark.parametrize("model", ["huge:101000", "huge", "endless"])
def test_a_larger_reply_is_not_read_to_its_end(server, model):
    policy = RetryPolicy(reply_bytes=100_500)
    failed = failure(server.base_url, model, policy=policy)

    assert (failed.code, failed.status, failed.calls) == ("model_reply_too_large", 200, 1)


def test_of_a_reply_that_says_that_it_is_larger_nothing_is_read(answer):
    base_url = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n")
    assert failure(base_url, policy=RetryPolicy()).code == "model_reply_too_large"


def test_the_bound_on_replies_is_8_mib(server):
    assert failure(server.base_url, "endless", policy=RetryPolicy()).code == "model_reply_too_large"
    assert failure(server.base_url, "huge", policy=RetryPolicy()).code == "model_reply_too_large"
    assert len(content(ask(server.base_url, "huge:8000000", policy=RetryPolicy()))) == 8_000_000


def test_an_error_without_end_is_an_error(answer):
    body = b'{"error": {"message": "' + b"x" * 1_000_000
    raw = b"HTTP/1.1 400 Bad\r\nContent-Length: 9000000\r\n\r\n" + body

    base_url = answer(raw)
    failed = failure(base_url)

    assert (failed.code, failed.status) == ("model_rejected", 400)
    assert len(failed.message) == 500


def test_a_compressed_reply_is_unpacked_within_the_bound(answer):
    def reply(length):
        packed = gzip.compress(b'{"choices": [{"message": {"content": "%b"}}]}' % (b"x" * length))
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        return answer(head % len(packed) + packed)

    assert content(ask(reply(1_000))) == "x" * 1_000
    assert failure(reply(9_000_000)).code == "model_reply_too_large"


def test_a_reply_that_cannot_be_unpacked_is_none(answer):
    raw = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"

    assert failure(answer(raw)).code == "model_reply_invalid"


@pytest.mark.parametrize("model", ["garbage", "not-http", "no-choices"])
def test_an_answer_that_is_no_completion_is_asked_for_once_more(server, model):
    failed = failure(server.base_url, model)

    assert (failed.code, failed.calls) == ("model_reply_invalid", 2)
    assert server.counts()["total"] == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b'{"choices": null}',
        b'{"choices": {}}',
        b'{"choices": [null]}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": "hello"}]}',
        b'{"choices": [{"message": {"content": ' + b"[" * 5000 + b"]" * 5000 + b"}}]}",
    ],
)
def test_only_a_chat_completion_is_a_reply(answer, body):
    url = answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert failure(url, policy=RetryPolicy(invalid_tries=1)).code == "model_reply_invalid"


def test_an_error_that_comes_with_status_200_is_told(answer):
    body = b'{"error": {"message": "out of memory"}}'
    url = answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    failed = failure(url)

    assert failed.message == "The reply is not a chat completion: out of memory"


@pytest.mark.parametrize("model", ["empty", "null", "refusal"])
def test_an_answer_without_text_is_a_reply(server, model):
    assert not content(ask(server.base_url, model))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "no such model"}}', "no such model"),
        (b'{"error": "no such model"}', "no such model"),
        (b'{"message": "no such model"}', "no such model"),
        (b'{"detail": "no such model"}', "no such model"),
        (b"no such\r\n\x00\x1b[31m model", "no such [31m model"),
        (b"", "no reason given"),
        (b'{"error": null}', '{"error": null}'),
    ],
)
def test_what_the_server_says_of_an_error_is_told_in_one_clean_line(answer, body, said):
    url = answer(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert failure(url).message == f"The model server answered 400: {said}"


def test_the_key_is_in_no_message(server, answer, closed_port):
    text = f"bad key {KEY} ".encode() * 40
    in_reply = b'{"error": {"message": "%b"}}' % text
    plain = answer(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
    answered = answer(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(in_reply), in_reply)
    )
    broken = answer(b"HTTP/1.1 9x%b\r\n\r\n" % KEY.encode())
    failures = [
        failure(server.base_url, "echo-key"),
        failure(plain),
        failure(answered),
        failure(broken),
        failure(f"http://127.0.0.1:{closed_port}/v1"),
    ]

    assert "[key]" in failures[0].message
    for failed in failures:
        for told in (failed.message, str(failed), repr(failed)):
            assert KEY[:12] not in told


def test_a_request_that_is_no_json_is_rejected_without_a_call(server):
    async def complete():
        async with client_of(server.base_url) as client:
            await client.complete({"model": "echo", "messages": {1, 2}})

    with pytest.raises(CallFailed) as failed:
        asyncio.run(complete())

    assert (failed.value.code, failed.value.calls) == ("model_rejected", 0)


def test_a_request_of_several_megabytes_is_sent(server):
    prompt = "word " * 600_000

    assert content(ask(server.base_url, prompt=prompt, policy=RetryPolicy())) == prompt


def test_no_more_calls_are_in_flight_than_there_are_slots():
    async def complete(base_url):
        slots = Slots(5)
        async with client_of(base_url, limiter=slots) as client:
            await asyncio.gather(*(client.complete(request(prompt=str(n))) for n in range(50)))
        return slots

    with running(delay=0.02) as server:
        slots = asyncio.run(complete(server.base_url))

        assert (slots.held, slots.ever_held) == (0, 50)
        assert server.counts()["max_in_flight"] == 5


def test_a_long_wait_gives_its_slot_to_another_item(server):
    async def complete():
        slots = Slots(1)
        async with client_of(server.base_url, limiter=slots) as client:
            slow = asyncio.create_task(client.complete(request("flaky:1:status-429-retry-after:1")))
            await asyncio.sleep(0.2)
            assert slots.held == 0
            await client.complete(request(prompt="other"))
            assert content(await slow) == "hello"
        return slots

    slots = asyncio.run(complete())

    assert (slots.held, slots.ever_held) == (0, 3)


def test_a_short_wait_keeps_its_slot(server):
    async def complete():
        slots = Slots(1)
        async with client_of(server.base_url, limiter=slots) as client:
            await client.complete(request("flaky:1:status-429-retry-after-ms:250"))
        return slots

    assert asyncio.run(complete()).ever_held == 1


@pytest.mark.parametrize(
    "model", ["fail-400", "fail-500-retry-after-ms:1", "garbage", "hang", "huge", "reset"]
)
def test_a_failed_call_gives_its_slot_back(server, model):
    async def complete():
        slots = Slots(1)
        async with client_of(server.base_url, limiter=slots) as client:
            with pytest.raises(CallFailed):
                await client.complete(request(model))
        return slots

    assert asyncio.run(complete()).held == 0


@pytest.mark.parametrize("model", ["hang", "status-429-retry-after:5", "reset"])
def test_a_cancelled_call_gives_its_slot_back(server, model):
    async def complete():
        slots = Slots(1)
        async with client_of(server.base_url, limiter=slots, policy=RetryPolicy()) as client:
            call = asyncio.create_task(client.complete(request(model)))
            await asyncio.sleep(0.2)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        return slots

    assert asyncio.run(complete()).held == 0


def test_nothing_is_sent_once_the_work_is_stopped(server):
    with pytest.raises(Stopped):
        ask(server.base_url, stopped=lambda: True)

    assert server.counts()["total"] == 0


@pytest.mark.parametrize("model", ["status-429-retry-after:5", "reset"])
def test_a_stop_ends_a_wait_for_another_try(server, model):
    async def complete():
        slots, stop = Slots(1), asyncio.Event()
        options = {"limiter": slots, "policy": RetryPolicy(), "stopped": stop.is_set}
        async with client_of(server.base_url, **options) as client:
            call = asyncio.create_task(client.complete(request(model)))
            await asyncio.sleep(0.3)
            stop.set()
            sent, began = server.counts()["total"], time.monotonic()
            with pytest.raises(Stopped):
                await call
            assert time.monotonic() - began < 4.5
            assert server.counts()["total"] == sent
        return slots

    assert asyncio.run(complete()).held == 0


def test_a_stop_while_waiting_for_a_slot_sends_nothing(server):
    async def complete():
        slots, stop = Slots(1), asyncio.Event()
        await slots.acquire()
        async with client_of(server.base_url, limiter=slots, stopped=stop.is_set) as client:
            call = asyncio.create_task(client.complete(request()))
            await asyncio.sleep(0.05)
            stop.set()
            slots.release()
            with pytest.raises(Stopped):
                await call
        return slots

    assert asyncio.run(complete()).held == 0
    assert server.counts()["total"] == 0


def test_a_call_in_flight_at_the_stop_is_still_answered():
    async def complete(base_url):
        stop = asyncio.Event()
        async with client_of(base_url, stopped=stop.is_set) as client:
            call = asyncio.create_task(client.complete(request()))
            await asyncio.sleep(0.05)
            stop.set()
            return await call

    with running(delay=0.2) as server:
        assert content(asyncio.run(complete(server.base_url))) == "hello"


def test_proxies_of_the_environment_are_not_used(server, monkeypatch, closed_port):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")

    assert content(ask(server.base_url)) == "hello"
