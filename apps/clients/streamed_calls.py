"""Post with aiohttp where an answer comes in pieces, and tell what its errors mean.

Whoever calls this imports it then: aiohttp takes a tenth of a second to load, and most processes
never stream.
"""

import io
import os
import socket
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from apps.clients.addresses import AddressRefused, is_public
from apps.clients.exchanges import UNPACKED_BY
from apps.clients.faults import (
    AddressUnusual,
    CallTimedOut,
    CertificateRefused,
    HttpFault,
    NotHttp,
    NotReached,
)

if TYPE_CHECKING:
    from aiohappyeyeballs import AddrInfoType

PIECE_BYTES = 64 * 1024
LARGE_REQUEST_BYTES = 1024 * 1024  # aiohttp wants larger ones as a file, to send them in pieces
FAULTS = (aiohttp.ClientError, OSError)  # what a call raises that fails


def _public_socket(addr_info: "AddrInfoType") -> socket.socket:
    family, kind, protocol, _, peer = addr_info
    if not is_public(peer[0]):
        raise AddressRefused
    return socket.socket(family, kind, protocol)


def open_connector(*, allow_private: bool) -> aiohttp.TCPConnector:
    """A connection pool that connects to public addresses only, or to any if allowed.

    A socket is made for one address after names were resolved, so this sees what will really be
    connected to: a name that changes its mind, a literal and an odd spelling alike.
    Must be called inside a running loop.
    """
    return aiohttp.TCPConnector(
        limit=0,  # the limiter bounds the calls; a second bound here would only hide it
        ttl_dns_cache=30,
        socket_factory=None if allow_private else _public_socket,
    )


def open_session(
    headers: Mapping[str, str],
    *,
    allow_private: bool,
    connect_seconds: float,
    call_seconds: float,
    proxy: URL | None = None,
) -> aiohttp.ClientSession:
    """Open a session that calls as HttpPool does; must be called inside a running loop."""
    return aiohttp.ClientSession(
        connector=open_connector(allow_private=allow_private),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=call_seconds, connect=connect_seconds),
        auto_decompress=False,
        trust_env=False,
        proxy=proxy,
    )


def post(session: aiohttp.ClientSession, url: URL, body: bytes) -> Any:
    """Send a request; `async with` gives its answer, once that begins."""
    data = body if len(body) < LARGE_REQUEST_BYTES else io.BytesIO(body)
    return session.post(url, data=data, allow_redirects=False)


async def unpacked(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the body in pieces, unpacked where it came compressed though nobody asked for that."""
    bits = UNPACKED_BY.get(response.headers.get("Content-Encoding", "").strip().lower().encode())
    pieces = response.content.iter_any()
    if bits is None:
        async for piece in pieces:
            yield piece
        return
    unpacker = zlib.decompressobj(bits)
    is_plain = False
    async for packed in pieces:
        piece = packed
        while piece and not is_plain:
            try:
                # By pieces, since a few bytes may hold gigabytes.
                yield unpacker.decompress(piece, PIECE_BYTES)
            except zlib.error:
                is_plain = True  # it only says that it is compressed, or nothing can read it
            else:
                piece = unpacker.unconsumed_tail
        if is_plain:
            yield piece
    if not is_plain:
        yield unpacker.flush()


async def read_some(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read the body, or of a longer one a little more than `limit` bytes."""
    pieces: list[bytes] = []
    size = 0
    async for piece in unpacked(response):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            break
    return b"".join(pieces)


def fault_of(error: aiohttp.ClientError | OSError) -> HttpFault | AddressRefused:
    """Say by a fault of ours what an error of aiohttp's means."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return _unconnected(error)
    if isinstance(error, aiohttp.ServerTimeoutError):
        return NotReached("no connection in time")
    if isinstance(error, TimeoutError):
        return CallTimedOut("no answer in time")
    if isinstance(error, aiohttp.InvalidURL):  # an address like 127.1 or 017700000001
        return AddressUnusual("the host is no usual address")
    if isinstance(error, aiohttp.ClientResponseError):
        return NotHttp(error.message)
    if isinstance(error, aiohttp.ClientPayloadError):
        return NotReached("the answer broke off")
    return NotReached("the connection broke before an answer")


def _unconnected(error: aiohttp.ClientConnectorError) -> HttpFault | AddressRefused:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return CertificateRefused("a certificate that cannot be trusted")
    if isinstance(error.os_error, AddressRefused):
        return error.os_error
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NotReached("its name does not resolve")
    if isinstance(error, aiohttp.ClientSSLError):
        return NotReached("the TLS handshake failed")
    return NotReached(os.strerror(error.errno).lower() if error.errno else "no connection")
