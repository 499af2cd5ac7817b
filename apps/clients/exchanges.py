"""One connection to an HTTP server: write a request in one piece, read its answer in bounds."""

import asyncio
import select
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from multidict import CIMultiDict

from apps.clients.faults import CallTimedOut, HttpFault, NotHttp, NotReached

HEAD_BYTES = 64 * 1024  # of an answer's head, with those of all 1xx answers before it
HEADERS_MAX = 256
# A body in chunks of a byte each takes six times its size; more than this is chatter.
WIRE_BYTES_A_BYTE = 8
SWITCHING_PROTOCOLS = 101
BODILESS = (204, 304)
LIMITS = b"x-ratelimit-"
UNPACKED_BY = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # by zlib, with these window bits
JSON_BEGINS = (b"{", b"[")
PLAIN_CODINGS = frozenset({b"identity", *UNPACKED_BY})


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bound an answer's body, in bytes: that of a success, and that of any other."""

    reply_bytes: int
    error_bytes: int

    def of(self, status: int) -> int:
        return self.reply_bytes if 200 <= status < 300 else self.error_bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, or of one that is too large its first part.

    body: unpacked where it came compressed. unread_coding: what it is packed in still.
    tells_limits: headers say how much is still taken.
    """

    status: int
    fields: Sequence[tuple[bytes, bytes]]
    body: bytes
    is_too_large: bool = False
    unread_coding: str = ""
    tells_limits: bool = False

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, found by their names in any case; of equal ones the first."""
        return CIMultiDict(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in self.fields
        )


class Exchange(asyncio.Protocol):
    """A connection, for one request after another: call `ask` and await the future it returns.

    After an answer `is_reusable` says whether to ask again; `abort` hangs up, answered or not.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        # What browsers forgive a server, we do: each answer has its connection to itself.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._waiter: asyncio.Future[Answer] | None = None
        self._is_awaited = False  # an answer, that has not come yet
        self._is_over = False  # the connection, by the other side or by ours
        self._can_go_on = False
        self._is_in_body = False
        self._ends_with_connection = False
        self._begin_message()

    def ask(self, request: bytes) -> "asyncio.Future[Answer]":
        """Write a request and return its answer to come; the future may raise HttpFault."""
        self._received = 0
        self._most_received = HEAD_BYTES
        self._is_in_body = False
        self._can_go_on = False
        self._waiter = waiter = self._loop.create_future()
        self._is_awaited = True
        if self._is_over:
            self._fail(NotReached("the connection broke before an answer"))
        else:
            self._transport.write(request)
        return waiter

    @property
    def is_reusable(self) -> bool:
        """Return whether another request may be sent; not one that the server would not await."""
        return (
            self._can_go_on
            and not self._is_over
            # The server has answered before it had it all.
            and not self._transport.get_write_buffer_size()
        )

    def is_deserted(self) -> bool:
        """Return whether the server has hung up, or said anything unasked, and we have not read it.

        It costs a call to the system; the event loop tells the same, but later.
        """
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def abort(self) -> None:
        """Close the connection at once, whatever is on its way."""
        self._is_over = True
        self._transport.abort()

    def time_out(self) -> None:
        """Give up the answer that is waited for."""
        self._fail(CallTimedOut("no answer in time"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no asyncio.Transport, but do the same.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._is_awaited:
            self.abort()  # nobody asked
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._finish(can_go_on=False)
        except HttpParserError as error:
            self._fail(NotHttp(str(error)))
        if self._is_awaited and self._received > self._most_received:
            self._fail(NotHttp("It has more around its body than a body needs."))

    def eof_received(self) -> None:
        self._is_over = True
        if self._is_in_body and self._ends_with_connection:
            self._finish(can_go_on=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        if self._is_awaited and self._is_in_body:
            self._fail(NotReached("the answer broke off"))
        else:
            self._fail(NotReached("the connection broke before an answer"))

    def on_message_begin(self) -> None:
        if not self._is_awaited:
            self._can_go_on = False  # two answers to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_in_body:  # else it trails the body, which says nothing to us
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        if not self._is_awaited:
            return
        self._status = status = self._parser.get_status_code()
        if not self._has_bounded_head():
            self._fail(NotHttp("Its head is too large."))
            return
        if self._is_interim():
            return
        limit = self._limit = self._bounds.of(status)
        length = coding = None
        is_chunked = self._tells_limits = False
        for name, value in self._fields:
            name = name.lower()
            if name == b"content-length":
                length = int(value)
            elif name == b"content-encoding":
                coding = value.strip().lower()
            elif name == b"transfer-encoding":
                is_chunked = value.strip().lower().endswith(b"chunked")
            elif name.startswith(LIMITS):
                self._tells_limits = True
        self._coding = coding
        self._is_in_body = True
        self._ends_with_connection = length is None and not is_chunked and status not in BODILESS
        self._stays_open = self._parser.should_keep_alive()
        self._most_received = HEAD_BYTES + WIRE_BYTES_A_BYTE * limit
        if length is not None and length > limit and 200 <= status < 300:
            # As many as are in flight would take that much memory at once.
            self._finish(can_go_on=False, is_too_large=True)

    def on_body(self, piece: bytes) -> None:
        if self._is_awaited:
            self._pieces.append(piece)
            self._size += len(piece)
            if self._size > self._limit:
                self._finish(can_go_on=False, is_too_large=True)

    def on_message_complete(self) -> None:
        if not self._is_awaited:
            return
        if self._is_interim():
            self._begin_message()
        else:
            self._finish(can_go_on=self._stays_open)

    def _begin_message(self) -> None:
        self._fields: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._size = 0

    def _is_interim(self) -> bool:
        """Return whether this is a word before the answer: 100 Continue, 103 Early Hints."""
        return 100 <= self._status < 200 and self._status != SWITCHING_PROTOCOLS

    def _has_bounded_head(self) -> bool:
        if len(self._fields) > HEADERS_MAX:
            return False
        # Most heads need not be counted: what has come with their body is within the bound.
        return (
            self._received <= HEAD_BYTES
            or sum(len(name) + len(value) for name, value in self._fields) <= HEAD_BYTES
        )

    def _fail(self, fault: HttpFault) -> None:
        self._can_go_on = False
        if (waiter := self._let_go()) is not None:
            waiter.set_exception(fault)

    def _finish(self, *, can_go_on: bool, is_too_large: bool = False) -> None:
        self._can_go_on = can_go_on
        if not self._is_awaited:
            return
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._coding in UNPACKED_BY and body:
            try:
                body, whole = unpack(body, UNPACKED_BY[self._coding], self._limit)
            except zlib.error:
                if body.lstrip()[:1] in JSON_BEGINS:
                    pass  # it only says that it is compressed
                elif self._limit == self._bounds.reply_bytes:
                    self._fail(NotHttp("It is compressed, but cannot be unpacked."))
                    return
                else:
                    body = b""  # of an error, whose status says the most
            else:
                is_too_large = is_too_large or not whole
        unread = self._coding if self._coding and self._coding not in PLAIN_CODINGS else b""
        answer = Answer(
            self._status,
            self._fields,
            body,
            is_too_large,
            unread.decode("latin-1"),
            self._tells_limits,
        )
        # A connection that is kept must not keep megabytes.
        self._begin_message()
        if (waiter := self._let_go()) is not None:
            waiter.set_result(answer)

    def _let_go(self) -> "asyncio.Future[Answer] | None":
        """Expect no answer any more; return whoever waited, unless cancelled a moment ago."""
        waiter, self._waiter = self._waiter, None
        self._is_awaited = False
        return None if waiter is None or waiter.done() else waiter


def unpack(data: bytes, window_bits: int, limit: int) -> tuple[bytes, bool]:
    """Decompress at most `limit` bytes; return them and whether they are all there is.

    Data that end too soon give what they hold. Raises zlib.error for what is not compressed so.
    """
    if window_bits == zlib.MAX_WBITS and data[0] & 0x0F != zlib.DEFLATED:
        window_bits = -zlib.MAX_WBITS  # some servers mean the bare format by deflate
    unpacked = zlib.decompressobj(window_bits).decompress(data, limit + 1)
    return unpacked, len(unpacked) <= limit
