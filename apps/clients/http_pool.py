"""Post to one HTTP server over connections that are kept, each call within its time and bounds."""

import asyncio
from collections import deque
from collections.abc import Mapping

from yarl import URL

from apps.clients.dialing import Dialer
from apps.clients.exchanges import Answer, Bounds, Exchange
from apps.clients.extras import proxy_authorization

IDLE_MAX = 256  # connections that wait for their next call
IDLE_SECONDS = 15.0  # ... and for how long
# One that waited longer than this is asked whether its server hung up. Servers let a connection
# wait for seconds, so it is not worth asking after each call; and the event loop tells as well.
LOOK_AFTER_SECONDS = 1.0


class HttpPool:
    """The connections to one server; belongs to the event loop in which it is first used.

    Redirects are not followed, no cookies kept, and the environment's proxies not used.
    headers: of every request. call_seconds: for a whole call, connecting included. proxy: the one
    through which all calls go.
    """

    def __init__(
        self,
        server: URL,
        headers: Mapping[str, str],
        bounds: Bounds,
        *,
        allow_private: bool,
        connect_seconds: float,
        call_seconds: float,
        proxy: URL | None = None,
    ) -> None:
        lines = {"Host": server.host_port_subcomponent, **headers}
        # What is not encrypted is asked of the proxy itself; else it only passes bytes on.
        self._asks_proxy = proxy is not None and server.scheme == "http"
        if proxy is not None and self._asks_proxy and (told := proxy_authorization(proxy)):
            lines["Proxy-Authorization"] = told
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._bounds = bounds
        self._call_seconds = call_seconds
        self._dialer = Dialer(
            server, allow_private=allow_private, seconds=connect_seconds, proxy=proxy
        )
        self._open: set[Exchange] = set()
        self._idle: deque[tuple[Exchange, float]] = deque()  # since when; the longest first
        self._cleaning: asyncio.TimerHandle | None = None

    def opening(self, url: URL, method: str = "POST") -> bytes:
        """Return the beginning of each request to a URL of this server, up to the body's length."""
        target = str(url) if self._asks_proxy else url.raw_path_qs
        return f"{method} {target} HTTP/1.1\r\n{self._headers}Content-Length: ".encode("ascii")

    async def post(self, opening: bytes, body: bytes) -> Answer:
        """Send a request once and return its answer. Raises HttpFault, or AddressRefused.

        A request that may have reached the server is not repeated: only the caller knows what a
        second one costs. Cancelling this closes the connection at once.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._call_seconds
        exchange = self._take_idle(loop.time()) or await self._connect(deadline)
        timer = loop.call_at(deadline, exchange.time_out)
        try:
            answer = await exchange.ask(b"%b%d\r\n\r\n%b" % (opening, len(body), body))
        except BaseException:
            self._drop(exchange)
            raise
        finally:
            timer.cancel()
        if exchange.is_reusable and len(self._idle) < IDLE_MAX:
            self._idle.append((exchange, loop.time()))
            if self._cleaning is None:
                self._cleaning = loop.call_later(IDLE_SECONDS, self._clean)
        else:
            self._drop(exchange)
        return answer

    async def close(self) -> None:
        """Close all connections, those at work too."""
        if self._cleaning is not None:
            self._cleaning.cancel()
        self._idle.clear()
        while self._open:
            self._open.pop().abort()
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    async def _connect(self, deadline: float) -> Exchange:
        exchange = await self._dialer.dial(lambda: Exchange(self._bounds), deadline)
        self._open.add(exchange)
        return exchange

    def _take_idle(self, now: float) -> Exchange | None:
        """Return the connection that was used last and still serves."""
        while self._idle:
            exchange, since = self._idle.pop()
            waited = now - since
            if exchange.is_reusable and waited < IDLE_SECONDS:
                may_be_gone = waited > LOOK_AFTER_SECONDS
                if not (may_be_gone and exchange.is_deserted()):
                    return exchange
            self._drop(exchange)
        return None

    def _drop(self, exchange: Exchange) -> None:
        self._open.discard(exchange)
        exchange.abort()

    def _clean(self) -> None:
        """Close what has waited too long, and look again when the next will have."""
        self._cleaning = None
        loop = asyncio.get_running_loop()
        while self._idle and loop.time() - self._idle[0][1] >= IDLE_SECONDS:
            self._drop(self._idle.popleft()[0])
        if self._idle:
            ends_at = self._idle[0][1] + IDLE_SECONDS
            self._cleaning = loop.call_at(ends_at, self._clean)
