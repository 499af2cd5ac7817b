"""A server of raw sockets that does what a test says, byte by byte, and tells what came."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

END_SECONDS = 30  # the longest that a test waits for a connection's end


class Peer:
    """The server's side of one connection."""

    def __init__(self, server: "RawServer", sock: socket.socket) -> None:
        self._server = server
        self.socket = sock
        self._held = b""

    def request(self) -> bytes:
        """Read a whole request, counted by the server; empty at the connection's end."""
        while b"\r\n\r\n" not in self._held:
            if not self._receive():
                return b""
        head, _, rest = self._held.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(rest) < length:
            if not self._receive():
                return b""
            rest = self._held.partition(b"\r\n\r\n")[2]
        self._held = rest[length:]
        request = head + b"\r\n\r\n" + rest[:length]
        self._server.requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_for_ever(self, piece: bytes, pause: float = 0) -> None:
        """Send a piece again and again until the client hangs up, and let the server know."""
        with contextlib.suppress(OSError):
            while True:
                self.send(piece)
                time.sleep(pause)
        self._server.ended.release()

    def wait_for_end(self) -> None:
        """Wait until the client has hung up, and let the server know."""
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(65536):
                pass
        self._server.ended.release()

    def _receive(self) -> bool:
        data = self.socket.recv(65536)
        self._held += data
        return bool(data)


Script = Callable[[Peer], object]


class RawServer:
    """Listens on loopback and runs a script for each connection, in a thread of its own.

    A connection closes when its script ends; a client that hangs up ends it quietly.
    connections: how many were opened. requests: those that were read. ended: released by a script
    that saw its client hang up.
    """

    def __init__(
        self, script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self._script = script
        self._tls = tls
        self._listener = socket.create_server((host, 0))
        self.host, self.port = self._listener.getsockname()
        self.connections = 0
        self.requests: list[bytes] = []
        self.ended = threading.Semaphore(0)
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def url(self, host: str = "") -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{host or self.host}:{self.port}/v1"

    def has_seen_the_end(self) -> bool:
        """Wait until a client has hung up; false when none does in time."""
        return self.ended.acquire(timeout=END_SECONDS)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        # A client that refuses or cuts a connection is what many a script waits for.
        with sock, contextlib.suppress(OSError):
            if self._tls is None:
                self._script(Peer(self, sock))
            else:
                with self._tls.wrap_socket(sock, server_side=True) as secured:
                    self._script(Peer(self, secured))


@contextlib.contextmanager
def raw_servers() -> Iterator[Callable[..., RawServer]]:
    """Start servers with the arguments of RawServer; all end with the block."""
    servers: list[RawServer] = []

    def serve(*arguments: object, **options: object) -> RawServer:
        servers.append(RawServer(*arguments, **options))  # type: ignore[arg-type]
        return servers[-1]

    try:
        yield serve
    finally:
        for server in servers:
            server.stop()
