"""Import a file of rows as the next version of a dataset, and show the progress."""

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from apps.accounts.services.actors import actor_of
from apps.datasets.file_imports import SkippedRows, import_file
from apps.datasets.import_export import BAD_ROWS_SHOWN, BadRows
from apps.datasets.row_readers import FORMATS, ReadingOptions, seekable, stem_of
from apps.datasets.unpacking import BadFile
from apps.errors import Invalid
from evalplatform.dialects.kit.commands import CoreCommand

HINTS = {
    "encoding": "Name it: --encoding cp1252, for example.",
    "delimiter": "Name what parts the cells: --delimiter ';', for example, or tab.",
}
TAB = "tab"
BAR_WIDTH = 30
BAR_SECONDS = 0.1
LINE_SECONDS = 5.0


class Command(CoreCommand):
    help = (
        "Import rows as the next frozen version of a dataset, in place of its earlier cases; the "
        "dataset is created when missing. How the file is written is found out, and said. Nothing "
        "is imported when a row is bad, unless --on-error skip is given, and each bad row is named "
        "by its line. A row with no other keys than item (an object) and perhaps sample "
        "(an object or null) is a test case with a recorded answer; any other object is the item "
        "itself."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file",
            metavar="FILE",
            help="JSONL, a JSON array or an object that holds one, CSV, Parquet or a workbook "
            "(.xlsx), plain or packed with gzip; - reads standard input",
        )
        parser.add_argument("--account", required=True, metavar="NAME")
        parser.add_argument("--name", help="of the dataset; without it the file's, less its ending")
        parser.add_argument("--format", choices=list(FORMATS), default="", help="else found out")
        parser.add_argument(
            "--encoding", default="", metavar="NAME", help="of a text; else found out"
        )
        parser.add_argument(
            "--delimiter",
            default="",
            metavar="CHARACTER",
            help="what parts the cells of CSV, or tab; else found out",
        )
        parser.add_argument(
            "--on-error",
            choices=["stop", "skip"],
            default="stop",
            help="skip: pass over bad rows, and write them to a file with the reasons",
        )
        parser.add_argument(
            "--skipped",
            metavar="FILE",
            help="where to write them; without it FILE.skipped.jsonl, and no file is replaced",
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
        name = options["name"] or (stem_of(path.name) if path else "")
        if not name:
            raise CommandError("Name the dataset with --name.")
        place = _place_for_skipped(path, options)
        actor = actor_of(options["account"], options["email"])
        delimiter = "\t" if options["delimiter"] == TAB else options["delimiter"]
        with ExitStack() as open_files:
            try:
                source = open_files.enter_context(path.open("rb")) if path else sys.stdin.buffer
                size = path.stat().st_size if path else 0
                skipped = open_files.enter_context(SkippedRows()) if place else None
                done = import_file(
                    actor,
                    into=name,
                    file=open_files.enter_context(seekable(source)),
                    filename=path.name if path else "",
                    options=ReadingOptions(options["format"], options["encoding"], delimiter),
                    skipped=skipped,
                    flat=options["flat"],
                    label_field=options["label_field"],
                    text_field=options["text_field"],
                    watch=self._watch(size),
                )
                if place and skipped and skipped.count:
                    with place.open("xb") as file:
                        file.writelines(skipped.chunks())
                    self.stderr.write(f"The skipped rows, with the reasons: {place}")
            except BadRows as error:
                self._list_bad_rows(error)
                raise CommandError("Nothing was imported.") from error
            except Invalid as error:
                hint = HINTS.get(str(error.problems[0].path[0]), "")
                raise CommandError(f"{error.messages[0]} {hint}".strip()) from error
            except (OSError, BadFile) as error:
                raise CommandError(str(error)) from error
        self.stdout.write(done.summary())

    def _list_bad_rows(self, error: BadRows) -> None:
        for row in error.rows:
            self.stderr.write(f"{row.place}: {row.message}")
        if len(error.rows) == BAD_ROWS_SHOWN:
            self.stderr.write(f"The first {BAD_ROWS_SHOWN} bad rows are listed; there may be more.")

    def _watch(self, size: int) -> Callable[[int], None]:
        """Return a function that reports on stderr how much was read."""
        is_terminal = self.stderr.isatty()
        shown_at = time.monotonic()

        def tell(done: int) -> None:
            nonlocal shown_at
            now = time.monotonic()
            if is_terminal and (now - shown_at >= BAR_SECONDS or done == size):
                ending = "\n" if done == size else ""
                self.stderr.write(f"\r{_bar(done, size)}", style_func=str, ending=ending)
                shown_at = now
            elif not is_terminal and now - shown_at >= LINE_SECONDS:
                self.stderr.write(_share(done, size), style_func=str)
                shown_at = now

        return tell


def _place_for_skipped(path: Path | None, options: dict[str, Any]) -> Path | None:
    """Return where skipped rows go; None where none are skipped. Raises CommandError."""
    if options["on_error"] != "skip":
        return None
    default = f"{path}.skipped.jsonl" if path else "stdin.skipped.jsonl"
    place = Path(options["skipped"] or default)
    if place.exists():
        raise CommandError(f"{place} exists: name another with --skipped.")
    return place


def _share(done: int, size: int) -> str:
    read = f"{done / 1e6:,.1f} MB"
    return f"{read} of {size / 1e6:,.1f} MB ({done / size:.0%})" if size else f"{read} read"


def _bar(done: int, size: int) -> str:
    full = BAR_WIDTH * done // size if size else 0
    bar = f"[{'#' * full}{'.' * (BAR_WIDTH - full)}] " if size else ""
    return bar + _share(done, size)
