"""Issue an API key and print it, making the account and the user when they are missing."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.utils import timezone

from apps.accounts.roles import Role
from apps.accounts.services.keys import SERVICE_EMAIL, provide_key
from evalplatform.dialects.kit.commands import CoreCommand


class Command(CoreCommand):
    help = (
        "Print a new API key, and nothing else, on standard output. It is shown this once. "
        "The account and the user are created when missing; who opens an account owns it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--account", required=True, metavar="NAME")
        parser.add_argument(
            "--email",
            default=SERVICE_EMAIL,
            help=f"whom the key speaks for; without it a service user, {SERVICE_EMAIL}",
        )
        parser.add_argument(
            "--role",
            choices=Role.values,
            help="what the key may do, never more than its user; without it admin, which may do "
            "all that the account can and open accounts",
        )
        parser.add_argument("--name", default="", help="what will use the key")
        parser.add_argument("--expires-days", type=float, metavar="N", help="default: never")

    def handle(self, *args: Any, **options: Any) -> None:
        days = options["expires_days"]
        _, secret = provide_key(
            account_name=options["account"],
            email=options["email"],
            role=options["role"],
            name=options["name"],
            expires_at=None if days is None else timezone.now() + timedelta(days=days),
        )
        self.stdout.write(secret)
