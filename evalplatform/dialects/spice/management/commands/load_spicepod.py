"""Load the declarations of a spicepod into an account: datasets, models, embeddings and evals."""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from apps.accounts.services.actors import actor_of
from apps.errors import Invalid, StateError
from apps.evaluations.services.declarations import declare
from evalplatform.dialects.kit.commands import CoreCommand
from evalplatform.dialects.spice.downloads import Downloads
from evalplatform.dialects.spice.spicepod import read_spicepod
from evalplatform.dialects.spice.yaml_nodes import MAX_BYTES


class Command(CoreCommand):
    help = (
        "Load the datasets, models, embeddings and evals of a spicepod, all of them or nothing. "
        "What has the same name in the account is replaced, its earlier runs stay, and nothing "
        "that the file does not mention is removed. A dataset or model that cannot be loaded and "
        "that no eval of the file uses is left out with a warning. Rows are copied now, of files "
        "or of public https:// addresses: a change counts after the next load."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="YAML or JSON in UTF-8")
        parser.add_argument("--account", required=True, metavar="NAME")
        parser.add_argument(
            "--dry-run", action="store_true", help="read and check everything, and store nothing"
        )
        parser.add_argument("--email", help="who loads; without it an owner of the account")

    def handle(self, *args: Any, **options: Any) -> None:
        path = Path(options["file"])
        actor = actor_of(options["account"], options["email"])
        try:
            with path.open("rb") as file:
                # A byte more than may be: the reader says that it is too large.
                document = file.read(MAX_BYTES + 1)
            with Downloads() as downloads:
                pod = read_spicepod(document, _Sources(path.parent, downloads))
                declared = declare(actor, pod.declarations, dry_run=options["dry_run"])
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror or error}") from error
        except ValidationError as error:
            raise CommandError(one_line(" ".join(error.messages))) from error
        except StateError as error:
            raise CommandError(one_line(str(error))) from error
        for one in declared.stored:
            self.stdout.write(one.line(dry_run=options["dry_run"]))
        if not declared.stored:
            self.stdout.write("Nothing is declared.")
        for warning in (*pod.warnings, *declared.warnings):
            self.stderr.write(f"warning: {one_line(warning)}", style_func=self.style.WARNING)


class _Sources:
    """Files below the spicepod's folder, and downloads."""

    def __init__(self, folder: Path, downloads: Downloads) -> None:
        self._folder = folder
        self.fetch = downloads.opener

    def find(self, path: str) -> Callable[[], BinaryIO]:
        return data_file(self._folder / path)


def one_line(text: str) -> str:
    """Put a text on one line; a path or a name may hold line feeds."""
    return " ".join(text.splitlines())


def data_file(path: Path) -> Callable[[], BinaryIO]:
    """Return a function that opens a regular file; no device or pipe, since it is read twice."""
    path.stat()
    if not path.is_file():
        raise Invalid(f"{path} is not a file.")
    return lambda: path.open("rb")
