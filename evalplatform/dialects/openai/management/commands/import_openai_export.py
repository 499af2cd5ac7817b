"""Import evals, runs and output items that were saved as the OpenAI API returned them."""

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from apps.accounts.models import Actor
from apps.accounts.services.actors import actor_of
from apps.errors import StateError
from apps.evaluations.models import Run
from apps.evaluations.services.regrades import differing_verdicts, regrade_run
from apps.inference.served_models import UnknownModel
from evalplatform.dialects.kit.commands import CoreCommand
from evalplatform.dialects.openai.history.history_import import HistoryImport, import_history
from evalplatform.dialects.openai.ids import RUN_ID

LOOK_SECONDS = 0.5


class Command(CoreCommand):
    help = (
        "Import evals, runs and output items that were saved as the OpenAI API returned them, or "
        "by export_run --format folder: single objects, arrays, list pages, lines of JSON, and "
        "directories of such files. Below a directory, files/<file-id>.jsonl are uploaded files, "
        "which runs can name by these ids. Ids, times, names, metadata, counts and verdicts are "
        "kept. What cannot be read is named and passed over. What was imported before stays."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", metavar="PATH", help="a file or a directory")
        parser.add_argument("--account", required=True, metavar="NAME")
        parser.add_argument("--email", help="who imports; without it an owner of the account")
        parser.add_argument("--dry-run", action="store_true", help="store nothing, only tell")
        parser.add_argument(
            "--regrade",
            action="store_true",
            help="start a run over the recorded rows and answers of each imported run",
        )
        parser.add_argument(
            "--wait",
            type=float,
            default=0.0,
            metavar="SECONDS",
            help="with --regrade: so long for its end, to tell how many verdicts differ",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        root = Path(options["path"])
        if not root.exists():
            raise CommandError(f"There is no file or directory {root}.")
        actor = actor_of(options["account"], options["email"])
        done = import_history(actor, root, dry_run=options["dry_run"])
        self._tell(done, dry_run=options["dry_run"])
        if done.is_empty:
            raise CommandError("Nothing was imported: no eval, run, output item or file was found.")
        if options["regrade"] and not options["dry_run"]:
            self._grade_again(actor, done.imported, options["wait"])

    def _tell(self, done: HistoryImport, *, dry_run: bool) -> None:
        for problem in done.problems:
            self.stderr.write(f"{problem.place}: {problem.message}")
        for sentence in done.lost:
            self.stderr.write(sentence)
        if done.is_empty:
            return
        verb = "Would import" if dry_run else "Imported"
        self.stdout.write(
            f"{verb} {done.evals:,} evals, {len(done.runs):,} runs, {done.items:,} output items"
            f"{_files(done.files)}."
        )
        if done.known_evals or done.known_runs or done.known_files:
            self.stdout.write(
                f"Here already: {done.known_evals:,} evals, {done.known_runs:,} runs"
                f"{_files(done.known_files)}."
            )

    def _grade_again(self, actor: Actor, runs: list[Run], wait: float) -> None:
        started = []
        for run in runs:
            try:
                again = regrade_run(actor, run)
            except (ValidationError, UnknownModel, StateError) as error:
                reason = " ".join(getattr(error, "messages", [str(error)]))
                self.stderr.write(f"{RUN_ID.of(run)} is not graded again: {reason}")
                continue
            self.stdout.write(f"{RUN_ID.of(run)} is graded again as {RUN_ID.of(again)}.")
            started.append((run, again))
        deadline = time.monotonic() + wait
        for run, again in started:
            while not again.is_final and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS)
                again.refresh_from_db()
            if again.is_final:
                differing, total = differing_verdicts(run, again)
                self.stdout.write(
                    f"{RUN_ID.of(again)} is {again.state}: "
                    f"{differing:,} of {total:,} verdicts differ."
                )


def _files(count: int) -> str:
    return f", {count:,} file{'' if count == 1 else 's'}" if count else ""
