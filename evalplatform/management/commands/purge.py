"""Remove what is deleted: by itself that happens little by little, here at once."""

from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.core.management.base import CommandError
from django.db import OperationalError

from apps.evaluations.tasks import purge_now, rewrite_file
from evalplatform.dialects.kit.commands import CoreCommand


class Command(CoreCommand):
    help = (
        "Remove all that was deleted from the database. Workers do so by themselves, the first "
        "deleted first and never by more than a quarter of a core; this command does it now, "
        "beside them if they run. What a running retry or a new grading still reads is left. On "
        "SQLite the file shrinks too."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--now", action="store_true", help="said to be sure: nothing comes back afterwards"
        )
        parser.add_argument(
            "--rewrite",
            action="store_true",
            help="write SQLite's file anew, while nothing else runs; needed once for a file made "
            "before files could shrink",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["now"]:
            raise CommandError("Add --now: what is removed does not come back.")
        removed: Counter[str] = Counter()
        for noun, count in purge_now():
            removed[noun] += count
            self.stdout.write(f"{noun}: {removed[noun]:,} removed")
        if not removed:
            self.stdout.write("Nothing that is deleted is left.")
        if options["rewrite"]:
            try:
                rewrite_file()
            except OperationalError as error:
                raise CommandError(f"The file is in use: {error}. Stop what runs on it.") from error
            self.stdout.write("The file is written anew.")
