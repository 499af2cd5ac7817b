"""`manage.py demo`: serve, and show a first evaluation of real tickets over the OpenAI wire."""

import os
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection

from apps.accounts.models import ApiKey, Membership
from apps.accounts.roles import Role
from apps.accounts.services import (
    actor_of,
    hash_of,
    issue_key,
    open_account,
    record,
    user_by_email,
)
from apps.datasets.formats import Row
from apps.datasets.models import Dataset
from apps.datasets.transfers import import_cases
from evalplatform import environment as env
from evalplatform.demo import triage
from evalplatform.demo.wire import Wire, WireError
from evalplatform.management.commands import up
from evalplatform.management.commands.up import reachable

ACCOUNT = "demo"
EMAIL = "admin@example.com"


class Command(up.Command):
    help = (
        "Serve, make a demo account with an administrator and a key, and evaluate two built-in "
        "models on support tickets. Doing it again is harmless: only new runs are added."
    )

    fault = ""

    def handle(self, **options: Any) -> None:
        super().handle(**options)
        if self.fault:
            raise CommandError(f"The demo could not go on: {self.fault}")

    def prepare_database(self) -> None:
        super().prepare_database()
        self.password = kept(settings.DATA_DIR / "demo_password.txt", new_password)
        self.key = provide_account(self.password)
        learn_tickets()

    def announce(self, **options: Any) -> None:
        super().announce(**options)
        host = reachable(options["host"])
        base_url = f"http://{host}:{options['port']}"
        try:
            self.demonstrate(base_url)
        except (WireError, OSError) as error:
            self.fault = str(error)
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            connection.close()

    def demonstrate(self, base_url: str) -> None:
        wire = Wire(f"{base_url}/v1", self.key)
        self.say("\nEvaluating two built-in models on 100 support tickets:")
        file = wire.upload("support_tickets.jsonl", triage.tested_rows())
        eval_id = triage.evaluation(wire)
        progress = triage.Progress(self.write, is_terminal=self.stdout.isatty())
        runs = [triage.run(wire, eval_id, file["id"], model, progress) for model in triage.MODELS]
        self.say("")
        for line in triage.table(runs):
            self.say(line)
        self.say("")
        self.say(triage.comparison(wire, eval_id, runs))
        for line in self.closing(base_url, runs[-1]["report_url"]):
            self.say(line)

    def closing(self, base_url: str, report_url: str) -> list[str]:
        """Where to look, how to go on, how to stop."""
        lines = [
            "",
            f"Every verdict:  {report_url}",
            f"Administration: {base_url}/admin/   {EMAIL}   {self.password}",
            f"API reference:  {base_url}/docs/",
            "",
            "The openai client, pointed here:",
            "  from openai import OpenAI",
            f'  client = OpenAI(base_url="{base_url}/v1", api_key="{self.key}")',
            "  print([run.name for run in client.evals.list()])",
            "",
        ]
        if command := own_model_command():
            lines += ["To evaluate the model that your environment names:", f"  {command}", ""]
        return [*lines, "Ctrl-C stops it."]

    def write(self, text: str) -> None:
        self.stdout.write(text, ending="")
        self.stdout.flush()


def own_model_command() -> str:
    """How to register the server that OPENAI_BASE_URL or OPENAI_API_KEY speaks of; else empty."""
    base_url, has_key = env.text("OPENAI_BASE_URL"), bool(env.text("OPENAI_API_KEY"))
    if not base_url and not has_key:
        return ""
    words = [".venv/bin/python manage.py add_endpoint --account", ACCOUNT]
    words += ["--base-url", base_url or "https://api.openai.com/v1"]
    words += ["--api-key-env OPENAI_API_KEY"] if has_key else []
    return " ".join([*words, "MODEL"])


def new_password() -> str:
    return secrets.token_urlsafe(12)


def kept(path: Path, make: Callable[[], str]) -> str:
    """A secret that is made once and kept where only its owner reads it."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(make(), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def provide_account(password: str) -> str:
    """Make the demo's account and administrator where they are missing; a key of theirs."""
    user = user_by_email(EMAIL)
    if not user.is_staff:
        user.is_staff = user.is_superuser = True
        user.set_password(password)
        user.save()
        record(None, "user.make_administrator", user)
    member = Membership.objects.filter(user=user, account__name=ACCOUNT).first()
    account = member.account if member else open_account(user, name=ACCOUNT)
    path = settings.DATA_DIR / "demo_key.txt"
    if path.exists():
        known = path.read_text(encoding="utf-8").strip()
        if ApiKey.objects.usable().filter(secret_hash=hash_of(known)).exists():
            return known
        path.unlink()
    return kept(path, lambda: issue_key(account, user, role=Role.ADMIN, name="demo")[1])


def learn_tickets() -> None:
    """Import the tickets that the built-in models learn from, once."""
    actor = actor_of(ACCOUNT)
    if Dataset.objects.visible_to(actor).present().filter(name=triage.DATASET).exists():
        return
    rows = [Row(line, ticket) for line, ticket in enumerate(triage.tickets(), 1)]
    import_cases(
        actor,
        into=triage.DATASET,
        rows=rows[: triage.LEARNED],
        flat=True,
        label_field="category",
        text_field="text",
    )
