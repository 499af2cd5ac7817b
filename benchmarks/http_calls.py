"""Measure one HTTP call: our client, the same client over aiohttp, and bare asyncio.

    .venv/bin/python benchmarks/http_calls.py [--calls 5000] [--in-flight 64] [--rounds 5]

A local model server, in another process, answers at once. In turns, within the same minute, each
way makes the same calls on kept connections: from a request's dict to a reply's. The bare one
writes to a socket, waits for as much as Content-Length says and checks nothing. Each is measured
on asyncio's loop, and on uvloop's where that is installed. Wall time includes the server's, which
may be what limits; processor time is the client's alone.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import orjson

from apps.clients import ChatClient, RetryPolicy, Unlimited
from apps.clients.exchanges import Answer
from apps.clients.replies import CHAT
from apps.clients.streamed_calls import open_session, post, read_some
from benchmarks.figures import Figure, options_of, report
from tests.model_server import ModelServer, running

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
with suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop

KEY = "sk-key"
QUESTION = "How many legs has a spider, and how many of them does it need? " * 4
REQUEST = {"model": "m", "messages": [{"role": "user", "content": QUESTION}]}
WARM_CALLS = 500

Call = Callable[[], Awaitable[Any]]
Way = Callable[[ModelServer], AbstractAsyncContextManager[Call]]


@asynccontextmanager
async def ours(server: ModelServer) -> AsyncIterator[Call]:
    client = ChatClient(server.base_url, KEY, Unlimited(), allow_private=True)
    try:
        yield lambda: client.complete(REQUEST)
    finally:
        await client.close()


class AiohttpClient(ChatClient):
    """Our client, with each call made by aiohttp."""

    async def _answer(self, opening: bytes, body: bytes, calls: int) -> Answer:
        if self._session is None:
            self._session = open_session(self._headers, **self._reach)
        async with post(self._session, self._urls[CHAT], body) as response:
            content = await read_some(response, RetryPolicy().reply_bytes)
        return Answer(response.status, response.raw_headers, content)


@asynccontextmanager
async def over_aiohttp(server: ModelServer) -> AsyncIterator[Call]:
    client = AiohttpClient(server.base_url, KEY, Unlimited(), allow_private=True)
    try:
        yield lambda: client.complete(REQUEST)
    finally:
        await client.close()


class BareConnection(asyncio.Protocol):
    """The least that gets an answer from a server that behaves."""

    waiter: asyncio.Future[bytes]
    held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.waiter

    def data_received(self, data: bytes) -> None:
        self.held += data
        head, _, body = self.held.partition(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        if len(body) == length:
            self.held = b""
            self.waiter.set_result(body)


@asynccontextmanager
async def bare(server: ModelServer) -> AsyncIterator[Call]:
    loop = asyncio.get_running_loop()
    opening = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer {KEY}\r\nContent-Length: "
    ).encode()
    idle: list[BareConnection] = []
    made = []

    async def call() -> Any:
        if idle:
            connection = idle.pop()
        else:
            _, connection = await loop.create_connection(BareConnection, "127.0.0.1", server.port)
            made.append(connection)
        body = orjson.dumps(REQUEST)
        answer = await connection.ask(b"%b%d\r\n\r\n%b" % (opening, len(body), body))
        idle.append(connection)
        return orjson.loads(answer)

    yield call
    for connection in made:
        connection.transport.abort()


async def measure(way: Way, server: ModelServer, calls: int, in_flight: int) -> tuple[float, float]:
    """Microseconds a call: of wall time, and of this process's processor time."""
    async with way(server) as call:

        async def work(left: list[None]) -> None:
            while left:
                left.pop()
                await call()

        async def make(count: int) -> None:
            left = [None] * count
            await asyncio.gather(*(work(left) for _ in range(in_flight)))

        await make(WARM_CALLS)
        began, used = time.perf_counter(), time.process_time()
        await make(calls)
        seconds, used = time.perf_counter() - began, time.process_time() - used
    return seconds / calls * 1e6, used / calls * 1e6


WAYS: dict[str, Way] = {"ours": ours, "aiohttp": over_aiohttp, "bare": bare}


def figures(calls: int, in_flight: int, rounds: int) -> list[Figure]:
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with running(totals_only=True) as server:
        for number in range(1, rounds + 1):
            for loop, make_loop in LOOPS.items():
                for name, way in WAYS.items():
                    with asyncio.Runner(loop_factory=make_loop) as runner:
                        took = runner.run(measure(way, server, calls, in_flight))
                    taken.setdefault((loop, name), []).append(took)
                    wall, processor = took
                    print(
                        f"round {number}, {loop}, {name}: {wall:.0f} µs, of them {processor:.0f} µs"
                        " of processor time",
                        flush=True,
                    )
    wall = {key: statistics.median(one[0] for one in values) for key, values in taken.items()}
    processor = {key: statistics.median(one[1] for one in values) for key, values in taken.items()}
    compared = []
    for loop in LOOPS:
        for other in ("aiohttp", "bare"):
            for what, values in (("processor time", processor), ("wall time", wall)):
                work = f"a call, {in_flight} in flight, {loop}: {what}"
                us, them = values[loop, "ours"], values[loop, other]
                compared.append(Figure(work, us, "µs", them, other))
    if "uvloop" in LOOPS:
        was, now = processor["asyncio", "aiohttp"], processor["uvloop", "ours"]
        work = "a call: processor time, ours on uvloop"
        compared.append(Figure(work, now, "µs", was, "aiohttp on asyncio", ratio_at_least=3))
    return compared


def main() -> None:
    options = options_of(__doc__, calls=5_000, in_flight=64, rounds=5)
    report(figures(options.calls, options.in_flight, options.rounds), options)


if __name__ == "__main__":
    main()
