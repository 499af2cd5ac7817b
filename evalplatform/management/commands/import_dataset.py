"""Import a file of rows as the next version of a dataset, and show the progress."""

import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandError

from apps.accounts.services.actors import actor_of
from apps.datasets.import_export import BAD_ROWS_SHOWN, BadRows, import_cases
from apps.datasets.row_readers import STREAMED, stream_format_of
from evalplatform.dialects.kit.commands import CoreCommand

READ_BYTES = 1024 * 1024
BAR_WIDTH = 30
BAR_SECONDS = 0.1
LINE_SECONDS = 5.0


class Command(CoreCommand):
    help = (
        "Import rows as the next frozen version of a dataset, in place of its earlier cases; the "
        "dataset is created when missing. Nothing is imported when a row is bad, and each bad row "
        "is named by its line. A row with no other keys than item (an object) and perhaps sample "
        "(an object or null) is a test case with a recorded answer; any other object is the item "
        "itself."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file", metavar="FILE", help="JSONL, a JSON array or CSV; - reads standard input"
        )
        parser.add_argument("--account", required=True, metavar="NAME")
        parser.add_argument("--name", help="of the dataset; without it the file's, less its ending")
        parser.add_argument(
            "--format",
            choices=list(STREAMED),
            help="without it by the file's ending; jsonl for standard input",
        )
        parser.add_argument(
            "--label-field", default="", help="the field with the right answer; each row needs it"
        )
        parser.add_argument(
            "--text-field",
            default="",
            help="the field that built-in models read, each row needs it; without it every text "
            "but the label",
        )
        parser.add_argument(
            "--flat", action="store_true", help="take every row for an item, also one like {item}"
        )
        parser.add_argument("--email", help="who imports; without it an owner of the account")

    def handle(self, *args: Any, **options: Any) -> None:
        path = None if options["file"] == "-" else Path(options["file"])
        name = options["name"] or (path.stem if path else "")
        if not name:
            raise CommandError("Name the dataset with --name.")
        actor = actor_of(options["account"], options["email"])
        try:
            format_name = options["format"] or (stream_format_of(path.name) if path else "jsonl")
        except ValueError as error:
            raise CommandError(f"{error}; or give --format") from error
        with ExitStack() as open_files:
            try:
                source = open_files.enter_context(path.open("rb")) if path else sys.stdin.buffer
                size = path.stat().st_size if path else 0
            except OSError as error:
                raise CommandError(str(error)) from error
            try:
                version = import_cases(
                    actor,
                    into=name,
                    rows=STREAMED[format_name].read(self._read(source, size)),
                    flat=options["flat"],
                    label_field=options["label_field"],
                    text_field=options["text_field"],
                )
            except BadRows as error:
                self._list_bad_rows(error)
                raise CommandError("Nothing was imported.") from error
        self.stdout.write(
            f"Imported {version.case_count:,} rows into {name} version {version.num}."
        )

    def _list_bad_rows(self, error: BadRows) -> None:
        for row in error.rows:
            self.stderr.write(f"{row.place}: {row.message}")
        if len(error.rows) == BAD_ROWS_SHOWN:
            self.stderr.write(f"The first {BAD_ROWS_SHOWN} bad rows are listed; there may be more.")

    def _read(self, source: BinaryIO, size: int) -> Iterator[bytes]:
        """Yield the file in pieces, and report on stderr how much was read."""
        is_terminal = self.stderr.isatty()
        done, shown_at = 0, time.monotonic()
        while chunk := source.read(READ_BYTES):
            yield chunk
            done += len(chunk)
            now = time.monotonic()
            if is_terminal and (now - shown_at >= BAR_SECONDS or done == size):
                self.stderr.write(f"\r{_bar(done, size)}", style_func=str, ending="")
                shown_at = now
            elif not is_terminal and now - shown_at >= LINE_SECONDS:
                self.stderr.write(_share(done, size), style_func=str)
                shown_at = now
        if is_terminal:
            self.stderr.write("")


def _share(done: int, size: int) -> str:
    read = f"{done / 1e6:,.1f} MB"
    return f"{read} of {size / 1e6:,.1f} MB ({done / size:.0%})" if size else f"{read} read"


def _bar(done: int, size: int) -> str:
    full = BAR_WIDTH * done // size if size else 0
    bar = f"[{'#' * full}{'.' * (BAR_WIDTH - full)}] " if size else ""
    return bar + _share(done, size)
