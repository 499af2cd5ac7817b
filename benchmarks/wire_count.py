"""Count what goes to PostgreSQL: a proxy that passes everything on and counts the statements."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

PIECE = 1 << 16
STATEMENTS = frozenset(b"QE")  # a simple query, and an execution of a prepared one
QUESTION_SIZE = 8
SIZE = 4  # bytes of a message's length, which counts itself


@dataclass
class WireCount:
    """The counts so far: statements, bytes to the server, connections open and at most."""

    url: str
    statements: int = 0
    sent_bytes: int = 0
    open: int = 0
    most_open: int = 0


class _Statements:
    """Walks along the messages of one connection, whose first has no type."""

    def __init__(self, count: WireCount) -> None:
        self._count = count
        self._head = bytearray()
        self._rest = 0  # bytes of the message that are still to come
        self._is_first = True

    def see(self, data: bytes) -> None:
        self._count.sent_bytes += len(data)
        at = 0
        while at < len(data):
            if self._rest:
                step = min(self._rest, len(data) - at)
                self._rest -= step
                at += step
                continue
            self._head.append(data[at])
            at += 1
            typed = 0 if self._is_first else 1
            if len(self._head) == typed + SIZE:
                if typed and self._head[0] in STATEMENTS:
                    self._count.statements += 1
                size = int.from_bytes(self._head[typed:])
                self._rest = size - SIZE
                self._head.clear()
                # A question for encryption comes before the first message, and looks like it.
                self._is_first = self._is_first and size == QUESTION_SIZE


@contextmanager
def counted(url: str) -> Iterator[WireCount]:
    """Pass on to the server that the URL names; the count's own URL leads through the proxy."""
    parts = urlsplit(url)
    count = WireCount(url)
    loop = asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        count.open += 1
        count.most_open = max(count.most_open, count.open)
        try:
            theirs = await asyncio.open_connection(parts.hostname, parts.port or 5432)
            statements = _Statements(count)

            async def answer() -> None:
                while data := await theirs[0].read(PIECE):
                    writer.write(data)
                    await writer.drain()

            answering = asyncio.create_task(answer())
            while data := await reader.read(PIECE):
                statements.see(data)
                theirs[1].write(data)
                await theirs[1].drain()
            theirs[1].close()
            await answering
        except (OSError, asyncio.CancelledError):
            pass  # an end of it is gone, or the proxy is
        finally:
            count.open -= 1
            writer.close()

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]
    user = f"{parts.username}:{parts.password or ''}@".replace(":@", "@")
    count.url = parts._replace(netloc=f"{user}127.0.0.1:{port}").geturl()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield count
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        with suppress(RuntimeError):
            server.close()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()
