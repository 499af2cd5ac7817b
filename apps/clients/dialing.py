"""Open checked connections to one server, over TLS where its URL says so."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeVar

from aiohappyeyeballs import start_connection
from yarl import URL

from apps.clients.addresses import AddressRefused, is_public
from apps.clients.extras import proxy_authorization
from apps.clients.faults import (
    AddressUnusual,
    CallTimedOut,
    CertificateRefused,
    HttpFault,
    NotReached,
)

if TYPE_CHECKING:
    from aiohappyeyeballs import AddrInfoType

P = TypeVar("P", bound=asyncio.Protocol)

NAME_SECONDS = 30  # what a name resolves to is asked again after this
# So long an address is waited for before the next is tried beside it. Source: RFC 8305, section 5.
NEXT_ADDRESS_SECONDS = 0.25
PROXY_HEAD_BYTES = 16 * 1024  # of a proxy's answer to CONNECT


@cache
def trusting_authorities() -> ssl.SSLContext:
    """Make the TLS settings of all calls: certificate and host name are verified.

    Made once, since reading the authorities' certificates takes 20 ms.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Connects to one server; belongs to the event loop in which it is first used.

    allow_private: also to addresses that are not public. seconds: for one connection, from the
    look-up of the name to the end of the TLS handshake. proxy: connect to it instead, and for an
    https:// server through it; allow_private is then about the proxy's address.
    """

    def __init__(
        self, server: URL, *, allow_private: bool, seconds: float, proxy: URL | None = None
    ) -> None:
        self._server = server
        self._proxy = proxy
        near = proxy or server
        self._host = near.raw_host or ""
        self._port = near.port or 0
        self._is_secure = server.scheme == "https"
        self._allow_private = allow_private
        self._seconds = seconds
        self._addresses: list[AddrInfoType] = []
        self._stale_at = 0.0
        self._look_up: asyncio.Task[list[AddrInfoType]] | None = None

    async def dial(self, make_protocol: Callable[[], P], deadline: float) -> P:
        """Connect a new protocol. Raises HttpFault, or AddressRefused.

        deadline: the loop's time at which the call that waits for this has taken too long.
        """
        ends_at = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(min(ends_at, deadline)):
                return await self._dial(make_protocol)
        except AddressRefused:
            raise
        except OSError as error:
            if not isinstance(error, TimeoutError) or error.errno is not None:
                raise self._fault(error) from None
            if deadline < ends_at:
                raise CallTimedOut("no answer in time") from None
            raise NotReached("no connection in time") from None

    async def _dial(self, make_protocol: Callable[[], P]) -> P:
        connected = await self._connected()
        try:
            # Again, on the address that was connected to: the last word on where the call goes.
            if not (self._allow_private or is_public(connected.getpeername()[0])):
                raise AddressRefused
            if self._proxy is not None and self._is_secure:
                await self._ask_for_tunnel(connected, self._proxy)
        except BaseException:
            connected.close()
            raise
        # From here on the loop closes it, however this ends.
        host = (self._server.raw_host or "").rstrip(".")
        _, protocol = await asyncio.get_running_loop().create_connection(
            make_protocol,
            sock=connected,
            ssl=trusting_authorities() if self._is_secure else None,
            server_hostname=host if self._is_secure else None,
        )
        return protocol

    async def _ask_for_tunnel(self, connected: socket.socket, proxy: URL) -> None:
        """Ask the proxy to connect to the server. Source: RFC 9110, section 9.3.6."""
        loop = asyncio.get_running_loop()
        target = f"{self._server.host_subcomponent}:{self._server.port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if authorization := proxy_authorization(proxy):
            lines.append(f"Proxy-Authorization: {authorization}")
        await loop.sock_sendall(connected, "\r\n".join([*lines, "", ""]).encode("ascii"))
        head = b""
        while b"\r\n\r\n" not in head:
            piece = await loop.sock_recv(connected, 4096)
            head += piece
            if not piece or len(head) > PROXY_HEAD_BYTES:
                raise NotReached("the proxy does not answer as a proxy does")
        status = head.split(b" ", 2)[1:2]
        if not (head.startswith(b"HTTP/1.") and status and status[0].startswith(b"2")):
            told = status[0][:3].decode("ascii", "replace") if status else "nothing"
            raise NotReached(f"the proxy answered {told}")

    async def _connected(self) -> socket.socket:
        addresses = await self._resolved()
        if not self._allow_private:
            addresses = [one for one in addresses if is_public(one[4][0])]
            if not addresses:
                raise AddressRefused
        try:
            return await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
        except RuntimeError as error:  # uvloop's word for some addresses that cannot be used
            raise NotReached("no connection") from error

    async def _resolved(self) -> "list[AddrInfoType]":
        """Find all addresses of the server; those who ask at the same time look up once."""
        if (literal := self._literal()) is not None:
            return [literal]
        loop = asyncio.get_running_loop()
        if loop.time() < self._stale_at:
            return self._addresses
        if self._look_up is None:
            self._look_up = loop.create_task(self._looked_up())
            self._look_up.add_done_callback(self._forget_look_up)
        # Not cancelled with the first who asked: others may wait for it.
        return await asyncio.shield(self._look_up)

    def _literal(self) -> "AddrInfoType | None":
        """Return the server's address where the URL spells it."""
        try:
            ip = ip_address(self._host)
        except ValueError:
            # A resolver would make an address of 127.1, past whoever reads the URL only.
            if self._host.replace(".", "").isdigit():
                raise AddressUnusual("the host is no usual address") from None
            return None
        if ip.version == 4:
            return (socket.AF_INET, socket.SOCK_STREAM, 0, "", (self._host, self._port))
        return (socket.AF_INET6, socket.SOCK_STREAM, 0, "", (self._host, self._port, 0, 0))

    async def _looked_up(self) -> "list[AddrInfoType]":
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        self._addresses, self._stale_at = list(found), loop.time() + NAME_SECONDS
        return self._addresses

    def _forget_look_up(self, done: "asyncio.Task[list[AddrInfoType]]") -> None:
        self._look_up = None
        if not done.cancelled():
            done.exception()  # nobody may be left who waits for it

    def _fault(self, error: OSError) -> HttpFault:
        fault = _fault(error)
        if self._proxy is None or isinstance(fault, CertificateRefused):
            return fault
        return NotReached(f"{fault}, by way of its proxy")


def _fault(error: OSError) -> HttpFault:
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateRefused("a certificate that cannot be trusted")
    if isinstance(error, ssl.SSLError):
        return NotReached("the TLS handshake failed")
    if isinstance(error, socket.gaierror):
        return NotReached("its name does not resolve")
    return NotReached(os.strerror(error.errno).lower() if error.errno else "no connection")
