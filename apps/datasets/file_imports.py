"""Import a file of any format we read as a version of a dataset, and say how it was read."""

from collections.abc import Iterator
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import BinaryIO, Self

from apps.accounts.models import Actor
from apps.datasets.import_export import import_cases
from apps.datasets.models import Dataset, DatasetVersion, File
from apps.datasets.row_readers import ReadingOptions, Watch, open_rows
from apps.datasets.stored_files import store_file
from apps.datasets.tabular import BadRow
from apps.datasets.unpacking import READ_BYTES, BadFile
from apps.errors import Invalid
from apps.strict_json import dump_json

SKIPPED_PURPOSE = "skipped rows"


class SkippedRows:
    """The rows that an import passed over, kept on disk as lines of JSON until it is closed.

    Each has `place`, `reason` and `row`, the row as it stands in the file.
    """

    def __init__(self) -> None:
        self.count = 0
        self._file = TemporaryFile()  # noqa: SIM115  closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, bad: BadRow) -> None:
        text = bad.raw.decode(errors="replace")
        line = {"place": bad.place, "reason": bad.message, "row": text}
        self._file.write(dump_json(line).encode() + b"\n")
        self.count += 1

    def chunks(self) -> Iterator[bytes]:
        self._file.seek(0)
        while chunk := self._file.read(READ_BYTES):
            yield chunk


@dataclass(frozen=True)
class ImportedFile:
    """A file as it was imported. told: how it was read. skipped_count: rows passed over."""

    version: DatasetVersion
    told: str
    skipped_count: int

    def summary(self) -> str:
        count = self.version.case_count
        skipped = f", skipped {self.skipped_count:,}" if self.skipped_count else ""
        rows = f"{count:,} row{'' if count == 1 else 's'}"
        dataset = f"{self.version.dataset.name} version {self.version.num}"
        return f"Imported {rows} into {dataset}{skipped}. The file was read as {self.told}."


def import_file(
    actor: Actor,
    *,
    into: Dataset | str,
    file: BinaryIO,
    filename: str = "",
    options: ReadingOptions | None = None,
    skipped: SkippedRows | None = None,
    flat: bool = False,
    label_field: str = "",
    text_field: str = "",
    watch: Watch | None = None,
) -> ImportedFile:
    """Make the rows of a file the next version of a dataset; see `import_cases` for its rules.

    file: that can be sought in. skipped: takes bad rows, which are passed over; without it one
    of them is enough to import nothing. Raises as import_cases; Invalid has the path `encoding` or
    `delimiter` where saying that would help.
    """
    try:
        with open_rows(file, filename, options, watch=watch) as reading:
            version = import_cases(
                actor,
                into=into,
                rows=reading,
                skip=skipped.add if skipped else None,
                flat=flat,
                label_field=label_field,
                text_field=text_field,
            )
    except BadFile as error:
        message = f"Nothing was imported. The file cannot be read: {error}."
        raise Invalid(message, path=error.asks or "file") from error
    return ImportedFile(version, reading.told, skipped.count if skipped else 0)


def keep_skipped(actor: Actor, done: ImportedFile, skipped: SkippedRows) -> File:
    """Store the rows that an import passed over as a file, for whoever mends them."""
    return store_file(
        actor,
        filename=f"{done.version.dataset.name[:100]}-v{done.version.num}-skipped.jsonl",
        purpose=SKIPPED_PURPOSE,
        chunks=skipped.chunks(),
        is_inline=True,
    )
