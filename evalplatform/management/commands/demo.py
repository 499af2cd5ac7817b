"""`manage.py demo`: serve, and show a real evaluation from upload to comparison."""

import ipaddress
import os
import shlex
import signal
import time
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import CommandError

from evalplatform.demo import tour
from evalplatform.demo.client import Client, Refused
from evalplatform.demo.prepare import ACCOUNT, DATASET, Access, prepare, tickets
from evalplatform.dialects.kit.commands import CoreCommand
from evalplatform.management.commands import up

BAR_WIDTH = 30
LINE_SECONDS = 2.0
VENDOR_URL = "https://api.openai.com/v1"


class Command(CoreCommand, up.Command):
    help = (
        "Migrate, serve as `up` does, and meanwhile evaluate two built-in models on support "
        "tickets over HTTP. Stays up until Ctrl-C; running it again is harmless."
    )
    access: Access
    failure = ""
    shown: tuple[str, int] = ("", 0)
    shown_at = 0.0

    def handle(self, **options: Any) -> None:
        super().handle(**options)
        if self.failure:
            raise CommandError(self.failure)

    def prepare_database(self) -> None:
        self.say("Preparing the database and the demo's account")
        super().prepare_database()
        self.access = prepare()

    def announce(self, **options: Any) -> None:
        """Run the tour; called once the server answers, in a thread of its own."""
        try:
            self.show(up.reachable(options["host"]), options["port"])
        except Refused as error:
            self.give_up(str(error))
        except BaseException:
            self.give_up("The demo broke off.")
            raise

    def give_up(self, reason: str) -> None:
        self.failure = reason
        os.kill(os.getpid(), signal.SIGTERM)

    def show(self, host: str, port: int) -> None:
        learned, asked = tickets()
        self.say(
            f"Asking {len(tour.MODELS)} built-in models to sort {len(asked)} support tickets; "
            f"they know {len(learned)} others (dataset {DATASET})"
        )
        finished = tour.go(Client(host, port, self.access.key), asked, self.progress)
        self.say("")
        for line in tour.table(finished):
            self.say(line)
        self.say("")
        self.say(tour.sentence(*finished))
        root = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        for line in self.where_to_look(root, finished[-1].run["report_url"]):
            self.say(line)

    def progress(self, model: str, done: int, total: int) -> None:
        if (model, done) == self.shown:
            return
        self.shown, now = (model, done), time.monotonic()
        if self.stdout.isatty():
            full = BAR_WIDTH * done // total
            bar = f"[{'#' * full}{'.' * (BAR_WIDTH - full)}]"
            ending = "\n" if done == total else ""
            self.stdout.write(f"\r{bar} {done:>3} of {total}  {model}", ending=ending)
            self.stdout.flush()
        elif done == total or now - self.shown_at > LINE_SECONDS:
            self.say(f"{done:>3} of {total}  {model}")
            self.shown_at = now

    def where_to_look(self, root: str, report_url: str) -> list[str]:
        access = self.access
        password = f"password {access.password}" if access.password else "the password you gave it"
        lines = [
            "",
            "Look at it:",
            f"  {report_url}  every verdict of the last run",
            f"  {root}/admin/  everything else, as {access.email}, {password}",
            f"  {root}/docs/  the API, to read and to try",
            "Use it from Python, with the unmodified openai package:",
            "  from openai import OpenAI",
            f'  client = OpenAI(base_url="{root}/v1", api_key="{access.key}")',
            "  print([(made.id, made.name) for made in client.evals.list()])",
        ]
        if command := add_endpoint_command(os.environ):
            lines += ["Add your model, which then goes by its name in `model`:", f"  {command}"]
        return [*lines, "", "Ctrl-C stops it."]


def add_endpoint_command(environment: Any) -> str:
    """Make the command that registers the model named by OPENAI_* variables; empty without them."""
    base_url = environment.get("OPENAI_BASE_URL", "")
    key = environment.get("OPENAI_API_KEY", "")
    if not (base_url or key):
        return ""
    base_url = base_url or VENDOR_URL
    model = environment.get("OPENAI_MODEL") or (
        "gpt-4o-mini" if base_url == VENDOR_URL else "MODEL"
    )
    words = [".venv/bin/python", "manage.py", "add_endpoint", "--account", ACCOUNT]
    words += ["--base-url", base_url]
    words += ["--api-key-env", "OPENAI_API_KEY"] if key else []
    words += ["--allow-private"] if is_private(base_url) else []
    data_dir = environment.get("DATA_DIR", "")
    return (f"DATA_DIR={shlex.quote(data_dir)} " if data_dir else "") + shlex.join([*words, model])


def is_private(url: str) -> bool:
    """Tell from its text alone whether a URL names this machine or a private address."""
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or "." not in host
