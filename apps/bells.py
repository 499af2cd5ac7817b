"""Wake the processes that wait for work, on every machine, at once.

A bell says only that somebody should look. It may be lost, so whoever waits for one also looks
without it from time to time.
"""

import hashlib
import logging
import os
import select
import socket
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

# What a database or a queue that is away raises. Clients are slow to load, so only those of the
# services that there are do.
SERVICE_ERRORS: tuple[type[Exception], ...] = (OSError, DatabaseError)
if settings.REDIS_URL:
    import redis

    SERVICE_ERRORS += (redis.RedisError,)
if connection.vendor == "postgresql":
    import psycopg

    SERVICE_ERRORS += (psycopg.Error,)

NAME = "evalplatform_bell"
PATH_BYTES = 80  # of a folder of sockets: a socket's whole path may have 104 on macOS
MODE = 0o700

log = logging.getLogger(__name__)


class Ear(Protocol):
    """One way to hear bells; `fileno` is readable when there is something to `drain`."""

    def fileno(self) -> int: ...
    def drain(self) -> None: ...
    def close(self) -> None: ...


class Listener:
    """Hears the bells that ring from its making on; without an ear it hears none.

    An ear that breaks is replaced by the next `wait`, at most every RETRY_SECONDS. Belongs to one
    thread.
    """

    RETRY_SECONDS = 5.0

    def __init__(self) -> None:
        self._ear: Ear | None = None
        self._opens_at = 0.0
        self._open()

    def fileno(self) -> int | None:
        return self._ear.fileno() if self._ear is not None else None

    def drain(self) -> None:
        """Take in what has rung so far; never waits."""
        if self._ear is not None:
            try:
                self._ear.drain()
            except SERVICE_ERRORS:
                self._lose()

    def wait(self, seconds: float) -> bool:
        """Wait for a bell, at most so long; False when none was heard."""
        self._open()
        if self._ear is None:
            time.sleep(seconds)
            return False
        heard, _, _ = select.select([self._ear.fileno()], [], [], seconds)
        if heard:
            self.drain()
        return bool(heard)

    def close(self) -> None:
        if self._ear is not None:
            with suppress(*SERVICE_ERRORS):
                self._ear.close()
        self._ear = None

    def _open(self) -> None:
        now = time.monotonic()
        if self._ear is None and now >= self._opens_at:
            self._opens_at = now + self.RETRY_SECONDS
            try:
                self._ear = _way().listen()
            except SERVICE_ERRORS:
                log.exception("Bells cannot be heard; work is found by looking for it")

    def _lose(self) -> None:
        log.warning("Bells are not heard for a moment", exc_info=True)
        self.close()


def ring() -> None:
    """Wake all who listen. A bell that cannot be rung is logged and no more."""
    try:
        _way().ring()
    except SERVICE_ERRORS:
        log.exception("The bell cannot be rung; who waits finds out by looking")


class _OverRedis:
    """By publishing. Channels are the server's, not the database's, whose number is in the name."""

    def __init__(self) -> None:
        self._client = redis.from_url(str(settings.Q_CLUSTER["redis"]))
        number = self._client.connection_pool.connection_kwargs.get("db", 0)
        self._channel = f"{NAME}:{number}"

    def ring(self) -> None:
        self._client.publish(self._channel, b"")

    def listen(self) -> Ear:
        return _RedisEar(self._client, self._channel)


class _RedisEar:
    def __init__(self, client: Any, channel: str) -> None:
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.subscribe(channel)
        # The library offers only to wait for a message; a loop waits for the socket.
        self._socket: socket.socket = self._pubsub.connection._sock

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        # A message of another kind counts as none, so the socket is asked and not the answer.
        while select.select([self._socket], [], [], 0)[0]:
            self._pubsub.get_message(timeout=0)
            if self._pubsub.connection._sock is not self._socket:
                raise redis.ConnectionError("the connection was made anew")

    def close(self) -> None:
        self._pubsub.close()


class _OverPostgreSQL:
    """By NOTIFY, over the calling thread's connection; within a transaction it rings at its end."""

    def ring(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {NAME}")

    def listen(self) -> Ear:
        # Not Django's connection, which its owner may close, nor one of a pool.
        parameters = connection.get_connection_params()
        return _PostgreSQLEar(psycopg.connect(**parameters, autocommit=True))


class _PostgreSQLEar:
    def __init__(self, connected: "psycopg.Connection") -> None:
        self._connection = connected
        connected.execute(f"LISTEN {NAME}")

    def fileno(self) -> int:
        return self._connection.fileno()

    def drain(self) -> None:
        for _ in self._connection.notifies(timeout=0):
            pass

    def close(self) -> None:
        self._connection.close()


class _OverSockets:
    """By a datagram to each listener of this machine, whose sockets lie in a folder."""

    def ring(self) -> None:
        folder = socket_folder()
        if not folder.is_dir():
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
            caller.setblocking(False)
            for path in folder.iterdir():
                # A full socket has been rung already.
                with suppress(BlockingIOError, FileNotFoundError):
                    try:
                        caller.sendto(b"!", str(path))
                    except ConnectionRefusedError:
                        path.unlink(missing_ok=True)  # its listener died

    def listen(self) -> Ear:
        folder = socket_folder()
        folder.mkdir(MODE, parents=True, exist_ok=True)
        return _SocketEar(folder)


class _SocketEar:
    _numbers = iter(range(1, 1 << 62))

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{os.getpid()}-{next(self._numbers)}"
        self._path.unlink(missing_ok=True)  # of a dead process that had our number
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(self._path))

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(1)

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)


class _Silent:
    """No way: who waits finds out by looking."""

    def ring(self) -> None:
        pass

    def listen(self) -> Ear | None:
        return None


def socket_folder() -> Path:
    """Return the folder of this machine's sockets: in the data folder, where its name allows it."""
    own = settings.DATA_DIR / "bells"
    if len(os.fsencode(own)) <= PATH_BYTES:
        return own
    # A folder of another user there is refused by its mode, and nothing is heard.
    digest = hashlib.sha256(os.fsencode(own)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"evalplatform-{os.getuid()}-{digest}"


@cache
def _way() -> "_OverRedis | _OverPostgreSQL | _OverSockets | _Silent":
    if settings.REDIS_URL:
        return _OverRedis()
    if connection.vendor == "postgresql":
        return _OverPostgreSQL()
    return _OverSockets() if hasattr(socket, "AF_UNIX") else _Silent()
