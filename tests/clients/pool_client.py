"""A pool of small bounds, and the scripts that servers follow while it is asked."""

import socket
import struct

from apps.clients.addresses import check_url
from apps.clients.exchanges import Bounds
from apps.clients.http_pool import HttpPool

REPLY_BYTES = 100_000
ERROR_BYTES = 1_000
READ_BYTES = 256 * 1024  # that an event loop reads at once
SHORT = 0.3  # seconds of a call that is to take too long
OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"


class Client:
    """A pool and what a test asks of it."""

    def __init__(self, url, **options):
        self.url = check_url(url)
        reach = {"allow_private": True, "connect_seconds": 30, "call_seconds": 30} | options
        self.pool = HttpPool(self.url, {}, Bounds(REPLY_BYTES, ERROR_BYTES), **reach)

    async def ask(self, body=b"{}"):
        return await self.pool.post(self.pool.opening(self.url), body)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_exception):
        await self.pool.close()


async def ask(url, body=b"{}", **options):
    async with Client(url, **options) as client:
        return await client.ask(body)


def answering(*answers, then_waits=True):
    """A script that answers one request after another, then waits for the client to hang up."""

    def script(peer):
        for answer in answers:
            if not peer.request():
                break
            peer.send(answer)
        if then_waits:
            peer.wait_for_end()

    return script


def reset(peer):
    """Close a connection so that the other side takes it for broken."""
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def always(answer):
    def script(peer):
        while peer.request():
            peer.send(answer)

    return script
