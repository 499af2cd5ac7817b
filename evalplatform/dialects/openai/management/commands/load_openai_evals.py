"""Load the evals of a registry of the repository openai/evals, with their data and graders."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from apps.accounts.services.actors import actor_of
from evalplatform.dialects.kit.commands import CoreCommand
from evalplatform.dialects.openai.registry.registry_files import NotLoaded
from evalplatform.dialects.openai.registry.registry_load import load_registry


class Command(CoreCommand):
    help = (
        "Load the evals of a registry of openai/evals: each becomes an evaluation with its "
        "graders and a dataset, both under its name, by which it can be run. What cannot be "
        "loaded is named with the reason, and the rest is loaded. Loading again replaces "
        "definitions and rows; past runs keep theirs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "registry",
            metavar="FOLDER",
            help="the repository, or its folder evals/registry with evals/ and data/ in it",
        )
        parser.add_argument("--account", required=True, metavar="NAME")
        parser.add_argument(
            "--only", nargs="+", default=[], metavar="EVAL", help="these evals; without it all"
        )
        parser.add_argument(
            "--judge", default="", metavar="MODEL", help="the model that judges where one does"
        )
        parser.add_argument(
            "--files",
            action="store_true",
            help="also keep the rows of each as a file, whose id runs of OpenAI's clients can name",
        )
        parser.add_argument("--dry-run", action="store_true", help="read everything, store nothing")
        parser.add_argument("--email", help="who loads; without it an owner of the account")

    def handle(self, *args: Any, **options: Any) -> None:
        actor = actor_of(options["account"], options["email"])
        try:
            done = load_registry(
                actor,
                Path(options["registry"]),
                only=options["only"],
                judge=options["judge"],
                with_files=options["files"],
                dry_run=options["dry_run"],
            )
        except NotLoaded as error:
            raise CommandError(f"{error}.") from error
        verb = "would be loaded" if options["dry_run"] else "loaded"
        for one in done.loaded:
            rows = f"{one.row_count:,} row{'' if one.row_count == 1 else 's'}"
            ids = "".join(f", {name}" for name in (one.eval_id, one.file_id) if name)
            self.stdout.write(f"{one.name} {verb}: {rows}, by {', '.join(one.criteria)}{ids}")
        for name, reason in done.problems:
            self.stderr.write(f"{name} is not loaded: {reason}")
        self.stdout.write(f"{len(done.loaded):,} {verb}, {len(done.problems):,} not.")
        if not done.loaded:
            raise CommandError("No eval was loaded.")
