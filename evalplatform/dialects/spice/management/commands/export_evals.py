"""Export the runs of named evals, or their results, as Spice's two tables."""

from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from apps.accounts.services.accounts import find_account
from apps.datasets.tabular import write_csv, write_jsonl
from apps.evaluations.models import Evaluation, Run
from evalplatform.dialects.kit.commands import CoreCommand
from evalplatform.dialects.kit.parquet import NoParquet, write_parquet
from evalplatform.dialects.kit.writing import in_one_go
from evalplatform.dialects.spice.tables import RESULTS, RUNS, results_table, runs_table

TABLES = {"runs": (RUNS, runs_table), "results": (RESULTS, results_table)}


class Command(CoreCommand):
    help = (
        "Export what evals with a name gave: runs has a row for each run with its means, results "
        "a row for each row of the dataset and scorer of the runs that completed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("table", choices=[*TABLES])
        parser.add_argument("--account", required=True, metavar="NAME")
        parser.add_argument("--eval", metavar="NAME", help="one eval's alone")
        parser.add_argument("--format", choices=["jsonl", "csv", "parquet"], default="jsonl")
        parser.add_argument(
            "--output",
            default="-",
            metavar="FILE",
            help="- is standard output, for jsonl and csv (default)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        account = find_account(options["account"])
        columns, table = TABLES[options["table"]]
        runs = Run.objects.present().filter(account=account, evaluation__call_name__isnull=False)
        if options["eval"] is not None:
            runs = runs.filter(evaluation__call_name=options["eval"])
            if (
                not Evaluation.objects.present()
                .filter(account=account, call_name=options["eval"])
                .exists()
            ):
                raise CommandError(f"eval '{options['eval']}' not found")
        records = table(runs)
        if options["output"] != "-":
            self._write(Path(options["output"]), options["format"], columns, records)
        elif options["format"] == "parquet":
            raise CommandError("parquet cannot be written to standard output.")
        else:
            for chunk in _text(options["format"], columns, records):
                self.stdout.write(chunk.decode(), ending="")

    def _write(
        self, path: Path, kind: str, columns: Mapping[str, str], records: Iterator[dict[str, Any]]
    ) -> None:
        try:
            with in_one_go(path) as draft:
                if kind == "parquet":
                    write_parquet(draft, records, columns)
                else:
                    with draft.open("wb") as file:
                        file.writelines(_text(kind, columns, records))
        except (NoParquet, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Exported to {path}.")


def _text(
    kind: str, columns: Mapping[str, str], records: Iterator[dict[str, Any]]
) -> Iterator[bytes]:
    return write_jsonl(records) if kind == "jsonl" else write_csv(records, [*columns])
