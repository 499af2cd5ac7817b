"""`manage.py up`: migrate, then serve the web and work on runs, in one command."""

import fcntl
import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.db import connection

from evalplatform import environment as env
from evalplatform.health import is_migrated
from evalplatform.management.commands import worker
from evalplatform.supervisor import ROOT, Service

MIGRATING = 0x6576616C  # the key of our advisory lock


@contextmanager
def alone() -> Iterator[None]:
    """Hold a lock, so that no other process that starts now migrates at the same time."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATING])
            yield
            cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATING])
    else:
        with (settings.DATA_DIR / "migrating.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def free_address(host: str, port: int) -> str:
    """Return the address that `host` names. Raises CommandError when nobody can listen there.

    granian takes addresses only, and would not notice another server: its sockets share a port
    with any other of the same user.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as free:
            return free.getsockname()[0]
    except (OSError, OverflowError) as error:
        raise CommandError(
            f"Cannot listen at {host}, port {port} ({error}): --port or PORT chooses another"
        ) from error


class Command(worker.Command):
    help = "Migrate, then serve the web and work on runs until Ctrl-C or SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen at")
        parser.add_argument(
            "--port", type=int, default=env.integer("PORT", 8000), help="the port to listen at"
        )

    def services(self, **options: Any) -> list[Service]:
        address = free_address(options["host"], options["port"])
        command = [
            *("granian", "evalplatform.wsgi:application", "--interface", "wsgi"),
            *("--host", address, "--port", str(options["port"])),
            *("--working-dir", str(ROOT), "--log-level", "error"),
            *("--workers", str(env.integer("WEB_WORKERS", 1)), "--respawn-failed-workers"),
            # Requests still running then are cut, before the supervisor kills the server.
            *("--workers-kill-timeout", "8"),
            # Who waits for a run, for a model or on a slow line holds a thread: a third for each.
            *("--blocking-threads", "96", "--backlog", "1024"),
        ]
        web = Service("web server", command, {"EVALPLATFORM_ROLE": "web"})
        return [web, *super().services(**options)]

    def prepare_database(self) -> None:
        with alone():
            # To run through what is done already takes half a second of every start.
            if not is_migrated():
                call_command("migrate", verbosity=0, interactive=False)

    def ready(self, **options: Any) -> bool:
        host, port = reachable(options["host"]), options["port"]
        asked = http.client.HTTPConnection(host, port, timeout=5)
        try:
            asked.request("GET", "/readyz")
            # In production our own address may not be an allowed host: any answer will do.
            return asked.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            asked.close()

    def announce(self, **options: Any) -> None:
        host, port = reachable(options["host"]), options["port"]
        host = f"[{host}]" if ":" in host else host
        self.say(f"Evalplatform is up at http://{host}:{port}  (Ctrl-C stops it)")


def reachable(host: str) -> str:
    """Return the host at which this machine reaches a server that listens at `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound here
