"""Export a version of a dataset as a file of rows."""

from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from apps.accounts.services.actors import actor_of
from apps.datasets.import_export import export_cases, fields_of
from apps.datasets.models import DatasetVersion
from apps.datasets.reading import find_version, read_cases
from apps.datasets.tabular import write_csv, write_jsonl
from evalplatform.dialects.kit.commands import CoreCommand
from evalplatform.dialects.kit.writing import in_one_go


class Command(CoreCommand):
    help = (
        "Export a frozen version of a dataset. JSONL reads back as it was, with recorded answers; "
        "CSV holds the items only, a column for each field and JSON in the cells that are no text."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # Every command has a --version of Django's own; here it is the dataset's.
        return super().create_parser(prog_name, subcommand, conflict_handler="resolve", **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--account", required=True, metavar="NAME")
        parser.add_argument("--version", type=int, dest="num", metavar="N", help="default: newest")
        parser.add_argument("--format", choices=["jsonl", "csv"], default="jsonl")
        parser.add_argument(
            "--output", default="-", metavar="FILE", help="default: -, standard output"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        account = actor_of(options["account"]).account
        assert account is not None
        version = find_version(account.pk, options["name"], options["num"])
        chunks = _chunks(version, options["format"])
        if options["output"] == "-":
            for chunk in chunks:
                self.stdout.write(chunk.decode(), ending="")
            return
        try:
            with in_one_go(Path(options["output"])) as draft, draft.open("wb") as file:
                file.writelines(chunks)
        except OSError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Exported {version.case_count:,} rows of {options['name']} version {version.num}."
        )


def _chunks(version: DatasetVersion, format_name: str) -> Iterator[bytes]:
    if format_name == "jsonl":
        return write_jsonl(export_cases(version))
    return write_csv((item for item, _ in read_cases(version)), fields_of(version))
