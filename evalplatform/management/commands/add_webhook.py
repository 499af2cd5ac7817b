"""Register a URL that is told how an account's runs end."""

from argparse import ArgumentParser
from typing import Any

from apps.accounts.services.actors import actor_of
from apps.webhooks.models import EVENTS
from apps.webhooks.services import add_webhook
from evalplatform.dialects.kit.commands import CoreCommand
from evalplatform.dialects.kit.dialect import webhook_events


class Command(CoreCommand):
    help = (
        "Register a URL that is told how the runs of an account end. Prints the secret that the "
        "deliveries are signed with, and only that: it is not shown again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--account", required=True, metavar="NAME")
        parser.add_argument("--url", required=True)
        parser.add_argument(
            "--event",
            action="append",
            choices=[*webhook_events()],
            dest="events",
            help="what is told; repeatable (default: all)",
        )
        parser.add_argument(
            "--allow-private",
            action="store_true",
            help="let the URL lead to a private or loopback address",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        states = webhook_events()
        _, secret = add_webhook(
            actor_of(options["account"]),
            url=options["url"],
            events=[str(states[event]) for event in options["events"] or ()] or EVENTS,
            allow_private=options["allow_private"],
        )
        self.stdout.write(secret)
