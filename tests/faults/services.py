"""A PostgreSQL and a Redis of one's own, which may be killed and started again."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import psycopg
import redis

from tests.patience import patience

START_SECONDS = 30


def postgres_programs() -> Path | None:
    """Find the folder of initdb and postgres, of the newest version."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "postgres").exists()), None)


def missing_services() -> str:
    """Why private services cannot be started here; empty when they can."""
    if postgres_programs() is None:
        return "no PostgreSQL to start: initdb is neither on the path nor in /usr/lib/postgresql"
    if shutil.which("redis-server") is None:
        return "no Redis to start: redis-server is not on the path"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL refuses to run as root, and setpriv is missing"
    return ""


class Program:
    """A server process that ends with us, however we end; it listens at every address.

    host: by which we reach it. prefix: a command that runs it somewhere else, in another network
    namespace for one.
    """

    def __init__(
        self, folder: Path, port: int, host: str = "127.0.0.1", prefix: Sequence[str] = ()
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.port = port
        self.host = host
        self.prefix = prefix
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> Self:
        """Start it and wait until it answers; once more where its dead self is in the way."""
        ends_at = time.monotonic() + patience(START_SECONDS)
        while True:
            if self.process is None or self.process.poll() is not None:
                with (self.folder / "log").open("ab") as log:
                    self.process = subprocess.Popen(
                        [*self.prefix, *self.command()],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
            if self.answers():
                return self
            log_text = (self.folder / "log").read_text(errors="replace")
            assert time.monotonic() < ends_at, f"{self.command()[0]} did not start:\n{log_text}"
            time.sleep(0.1)

    def end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.end(signal.SIGKILL)


class Postgres(Program):
    def __init__(
        self, folder: Path, port: int, host: str = "127.0.0.1", prefix: Sequence[str] = ()
    ) -> None:
        super().__init__(folder, port, host, prefix)
        programs = postgres_programs()
        assert programs is not None
        self.programs = programs
        self._owned: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
            self._owned = [
                *("setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"),
                *("--pdeathsig", "KILL"),
            ]
        make = ["initdb", "-D", "data", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8"]
        subprocess.run(
            [*self._owned, str(programs / make[0]), *make[1:], "--locale=C"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with (folder / "data" / "pg_hba.conf").open("a") as access:
            access.write("host all all 0.0.0.0/0 trust\n")

    def url(self, host: str = "127.0.0.1") -> str:
        return f"postgres://postgres@{host}:{self.port}/postgres"

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "*",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        data = str(self.folder / "data")
        return [*self._owned, str(self.programs / "postgres"), "-D", data, *options]

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url(self.host), connect_timeout=patience(2)).close()
        except psycopg.OperationalError:
            return False
        return True

    def __exit__(self, *_exception: object) -> None:
        self.end(signal.SIGQUIT)  # at once, and its children with it


class Redis(Program):
    def url(self, host: str = "127.0.0.1") -> str:
        return f"redis://{host}:{self.port}/0"

    def command(self) -> list[str]:
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        return [
            *(*tied, "redis-server", "--port", str(self.port), "--bind", "0.0.0.0"),
            *("--save", "", "--appendonly", "no", "--dir", str(self.folder)),
            *("--protected-mode", "no"),
        ]

    def answers(self) -> bool:
        try:
            with redis.Redis(self.host, self.port, socket_timeout=patience(2)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
