"""Commands of the project as real processes, `manage.py up` first, for tests that need them.

with Served(tmp_path, {"WORKERS": "1"}) as served: ...    # up and ready, gone afterwards
"""

import fcntl
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import psutil
import psycopg

from evalplatform import lifeline
from tests.patience import patience, wait_until

ROOT = Path(__file__).resolve().parent.parent
MARK = "EVALPLATFORM_TEST_MARK"
FILE_NAME = "db.sqlite3"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


# Runs the commands that come in, a line each, and answers each with what it printed and its error.
ONE_AFTER_THE_OTHER = """
import contextlib, io, json, sys, traceback
from django.core.management import call_command
from django.db import connections
for line in sys.stdin:
    out, error = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(out):
            call_command(*json.loads(line), stdout=out)
    except BaseException:
        error = traceback.format_exc()
    connections.close_all()
    print(json.dumps([out.getvalue(), error]), flush=True)
"""


class Command:
    """A running Python command and all that came of it, found by a mark in the environment.

    command: a script or module with its arguments. prefix: a command that runs it somewhere else,
    in another network namespace for one. If the tests themselves are killed, it ends by its
    lifeline.
    """

    def __init__(
        self,
        command: list[str],
        log_path: Path,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.command = command
        self.prefix = prefix
        self.log_path = log_path
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
        self.env = {**os.environ, "PYTHONPATH": path, **(environment or {})}
        self.mark = uuid.uuid4().hex
        self.process: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        """All that the command and its processes printed since the first start."""
        return self.log_path.read_text(encoding="utf-8") if self.log_path.exists() else ""

    def start(self) -> Self:
        self._lifeline, theirs = socket.socketpair()
        with theirs, self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", lifeline.__name__, *self.command],
                env={**self.env, MARK: self.mark, lifeline.ENVIRONMENT: str(theirs.fileno())},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return self

    def processes(self) -> list[psutil.Process]:
        """Every living process of ours, the oldest first."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if (
                    process.environ().get(MARK) == self.mark
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
        return sorted(found, key=lambda process: process.create_time())

    def leader(self, word: str) -> psutil.Process | None:
        """The leader of the session in which a command with `word` in its arguments runs."""
        for process in self.processes():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == process.pid and word in process.cmdline():
                    return process
        return None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait_gone(self, seconds: float) -> float:
        """Return how long it took until the command had ended and nothing of it was left."""
        assert self.process is not None
        process = self.process
        return wait_until(
            lambda: process.poll() is not None and not self.processes(),
            seconds,
            lambda: f"end of {[(p.pid, p.cmdline()) for p in self.processes()]}\n{self.log}",
        )

    def stop(self) -> int:
        """End it as an operator does; its exit code."""
        try:
            self.send(signal.SIGTERM)
            assert self.process is not None
            return self.process.wait(patience(20))
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL for every process at once, as when the machine goes down."""
        while left := self.processes():
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        if self.process is not None:
            self.process.wait()
        if self._lifeline is not None:
            self._lifeline.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.kill()


class Managed(Command):
    """A `manage.py` command on data of its own.

    The data is the folder `data_dir`, and where the tests run on services, a database and a queue
    that go by the folder's name and are dropped after the last who uses them. `environment` may
    name another database.
    """

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.data_dir = data_dir
        data_dir.mkdir(parents=True, exist_ok=True)
        name = f"served_{hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]}"
        # None of our own where the environment brings one.
        self.has_own = "DATABASE_URL" not in (environment or {})
        near = os.environ.get("DATABASE_URL", "") if self.has_own else ""
        self._database = Database(near, name, data_dir)
        self._manager: subprocess.Popen[str] | None = None
        super().__init__(
            [str(ROOT / "manage.py"), *arguments],
            data_dir / f"{arguments[0]}-{uuid.uuid4().hex[:8]}.log",
            {
                "DATA_DIR": str(data_dir),
                "DATABASE_URL": self._database.url,
                "Q_CLUSTER_NAME": name,
                **(environment or {}),
            },
            prefix,
        )

    def prepare(self) -> None:
        """Make the database, where it is not there yet."""
        self._database.create(self._template())

    def start(self) -> Self:
        self.prepare()
        return super().start()

    def _template(self) -> "Template | None":
        """Name the migrated database that new ones are copied from, lest each server migrate."""
        return None

    def __exit__(self, *_exception: object) -> None:
        super().__exit__()
        self._end_manager()
        self._database.drop()

    def manage(self, *words: str) -> str:
        """Return what another management command prints, run beside this one on the same data.

        One process runs them all: to start one for each would take longer than most tests.
        """
        if self._manager is None or self._manager.poll() is not None:
            shell = [str(ROOT / "manage.py"), "shell", "--no-imports", "-c", ONE_AFTER_THE_OTHER]
            self._manager = subprocess.Popen(
                [*self.prefix, sys.executable, *shell],
                # A web server would keep its connections.
                env={**self.env, "EVALPLATFORM_ROLE": "cluster"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._manager.stdin is not None
        assert self._manager.stdout is not None
        self._manager.stdin.write(f"{json.dumps(words)}\n")
        self._manager.stdin.flush()
        printed, error = json.loads(self._manager.stdout.readline())
        assert not error, error
        return printed

    def _end_manager(self) -> None:
        if self._manager is not None:
            self._manager.communicate()
            self._manager = None

    def ring(self, function: str, *arguments: object, times: int = 1) -> None:
        """Make a cluster call `function`, named by its path."""
        self.manage(
            "shell",
            "-c",
            "from django_q.tasks import async_task\n"
            f"for _ in range({times}): async_task({function!r}, *{arguments!r})",
        )


class Served(Managed):
    """`manage.py up` on a free port, ready once it is started; `restart` keeps port and data."""

    start_seconds = 30.0  # of a quick machine

    def __init__(
        self,
        data_dir: Path,
        environment: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        self.host = host
        self.port = port or free_port()
        self.base_url = f"http://{host}:{self.port}"
        address = ("--host", host, "--port", str(self.port))
        super().__init__(data_dir, "up", *address, environment=environment, prefix=prefix)

    def start(self) -> Self:
        super().start()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def _template(self) -> "Template | None":
        folder = os.environ.get(Template.FOLDER)
        return Template(Path(folder)) if folder and self.has_own else None

    def ready(self) -> bool:
        asked = http.client.HTTPConnection(self.host, self.port, timeout=patience(2))
        try:
            asked.request("GET", "/readyz")
            return asked.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            asked.close()

    def wait_ready(self) -> float:
        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"up ended by itself:\n{self.log}"
            return self.ready()

        return wait_until(ready, self.start_seconds, lambda: f"/readyz\n{self.log}")

    def restart(self) -> Self:
        self.stop()
        return self.start()


class Database:
    """The place where a served instance keeps its rows.

    A PostgreSQL database of its own, beside the one that `url` names, or the file in its
    folder.
    """

    def __init__(self, url: str, name: str, data_dir: Path) -> None:
        self.name = name
        self.near = url if url.startswith("postgres") else ""
        self.url = urlsplit(url)._replace(path=f"/{name}").geturl() if self.near else ""
        self.file = data_dir / FILE_NAME

    def create(self, template: "Template | None") -> None:
        if self.near:
            origin = f' TEMPLATE "{template.database(self.near)}"' if template else ""
            with suppress(psycopg.errors.DuplicateDatabase):
                execute(self.near, f'CREATE DATABASE "{self.name}"{origin}')
        elif template and not self.file.exists():
            shutil.copyfile(template.file(), self.file)

    def drop(self) -> None:
        if self.near:
            with suppress(psycopg.errors.ObjectInUse, psycopg.errors.InvalidCatalogName):
                execute(self.near, f'DROP DATABASE "{self.name}"')


class Template:
    """Databases that are migrated once and copied then, by all processes that share the tests.

    folder: is for this alone, and is the same for all of them.
    """

    FOLDER = "EVALPLATFORM_TESTS_TEMPLATE"  # the variable that names it

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self) -> Path:
        """The migrated SQLite file."""
        path = self.folder / FILE_NAME
        with self._one_at_a_time():
            if not path.exists():
                self._migrate("")
        return path

    def database(self, near: str) -> str:
        """The name of the migrated database beside the one that `near` names."""
        name = f"template_{self.folder.name}".lower()
        with self._one_at_a_time():
            if not (self.folder / name).exists():
                execute(near, f'CREATE DATABASE "{name}"')
                self._migrate(urlsplit(near)._replace(path=f"/{name}").geturl())
                (self.folder / name).touch()
        return name

    def remove(self) -> None:
        near = os.environ.get("DATABASE_URL", "")
        for name in self.folder.glob("template_*"):
            execute(near, f'DROP DATABASE IF EXISTS "{name.name}"')
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _migrate(self, url: str) -> None:
        subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), "migrate", "--verbosity", "0"],
            env={**os.environ, "DATA_DIR": str(self.folder), "DATABASE_URL": url},
            check=True,
        )


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
