"""Export a run: as a table, or as a folder that can be imported again."""

import json
import os
import shutil
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from apps.datasets.tabular import write_csv, write_jsonl
from apps.evaluations.exports import columns, rows, summary_table
from apps.evaluations.models import Run
from apps.strict_json import dump_json
from evalplatform.dialects.kit.commands import CoreCommand, find_run
from evalplatform.dialects.kit.dialect import RunExport, exports
from evalplatform.dialects.kit.parquet import NoParquet, write_parquet
from evalplatform.dialects.kit.writing import in_one_go


class Command(CoreCommand):
    help = (
        "Export a run. jsonl, csv and parquet hold a row for each result: the item, the answer, "
        "the state, and for each criterion its score, verdict, error and evidence; a summary with "
        "means and standard errors is written beside."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        folders = exports()
        clauses = [f"{name} holds {export.help}." for name, export in folders.items()]
        parser.description = " ".join([self.help, *clauses])
        parser.add_argument("run", metavar="RUN", help="its UUID, or its id as the API shows it")
        parser.add_argument(
            "--format", choices=["jsonl", "csv", "parquet", *folders], default="jsonl"
        )
        parser.add_argument(
            "--output",
            required=True,
            metavar="PATH",
            help="a file, or a directory for a folder; - is standard output for jsonl and csv",
        )
        parser.add_argument("--account", metavar="NAME", help="needed where two have such a run")

    def handle(self, *args: Any, **options: Any) -> None:
        run = find_run(options["run"], options["account"])
        kind, output = options["format"], options["output"]
        if output == "-" and kind in {"jsonl", "csv"}:
            for chunk in _table(run, kind):
                self.stdout.write(chunk.decode(), ending="")
            return
        if output == "-":
            raise CommandError(f"{kind} cannot be written to standard output.")
        if not run.is_final:
            self.stderr.write("The run is still going: this is what there is so far.")
        path = Path(output)
        try:
            folder = exports().get(kind)
            count = _write_folder(run, path, folder) if folder else _write_table(run, path, kind)
        except NoParquet as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Exported {count:,} results of {run.name} to {path}.")


def _table(run: Run, kind: str) -> Iterator[bytes]:
    return write_jsonl(rows(run)) if kind == "jsonl" else write_csv(rows(run), columns(run))


def _flat_rows(run: Run) -> Iterator[dict[str, Any]]:
    for row in rows(run):
        yield {**row, "item": dump_json(row["item"])}


def _kind_of(column: str) -> str:
    """Return the Parquet type of a column; items are JSON text there."""
    kinds = {"row_index": "int64", "repeat": "int64", "score": "double", "passed": "bool"}
    return kinds.get(column.rpartition(".")[2], "string")


def _write_table(run: Run, path: Path, kind: str) -> int:
    totals = summary_table(run)
    with in_one_go(path) as draft:
        if kind == "parquet":
            write_parquet(draft, _flat_rows(run), {name: _kind_of(name) for name in columns(run)})
        else:
            with draft.open("wb") as file:
                file.writelines(_table(run, kind))
    summary = json.dumps(totals, indent=2, ensure_ascii=False)
    path.with_name(f"{path.stem}.summary.json").write_text(f"{summary}\n", encoding="utf-8")
    return totals["results"]["total"]


def _write_folder(run: Run, path: Path, export: RunExport) -> int:
    """Write a folder, replacing an earlier export. Raises CommandError for any other directory."""
    if path.exists() and (
        not path.is_dir() or any(inside.name not in export.files for inside in path.iterdir())
    ):
        raise CommandError(f"{path} is there already and is no export of a run.")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.mkdir()
    try:
        count = export.write(run, draft)
        if path.exists():
            shutil.rmtree(path)
        draft.replace(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return count
