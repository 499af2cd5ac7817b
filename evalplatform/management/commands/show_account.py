"""Print the id of an account."""

from argparse import ArgumentParser
from typing import Any

from apps.accounts.services.accounts import find_account
from evalplatform.dialects.kit.commands import CoreCommand


class Command(CoreCommand):
    help = "Print an account's id, and nothing else, on standard output."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(str(find_account(options["name"]).pk))
