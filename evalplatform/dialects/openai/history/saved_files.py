"""Find the vendor's objects in saved files: single objects, arrays, list pages, lines of JSON.

Beside them lie uploaded files, each under its id.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Self

from apps.datasets.row_readers import FORMATS
from apps.datasets.tabular import BadRow, Line, iter_lines
from apps.strict_json import BadJSON, dump_json, parse_json

EVAL, RUN, ITEM = "eval", "eval.run", "eval.run.output_item"
OBJECTS = (EVAL, RUN, ITEM)
# What an export of ours holds besides.
MANIFEST = "evalplatform.export"
LINES = FORMATS["jsonl"].endings
SUFFIXES = (*FORMATS["json"].endings, *LINES)
READ_BYTES = 1024 * 1024
# A document that is not lines must be in memory as a whole.
DOCUMENT_BYTES = 512 * 1024 * 1024
FILES_FOLDER = "files"
FILE_NAME = re.compile(r"file-[!-~]{1,90}\.jsonl")
# Objects are looked for this deep inside objects of other kinds.
DEPTH = 4


class SavedFile(NamedTuple):
    """An uploaded file that was saved under its id."""

    id: str
    path: Path


class ImportProblem(NamedTuple):
    """A reason for which a file, or a line of it, was passed over."""

    place: str
    message: str


def read_saved(root: Path) -> Iterator[dict[str, Any] | SavedFile | ImportProblem]:
    """Yield every object below `root`, a file or a directory, in the order of the files' names.

    A file `files/<file-id>.jsonl` is a SavedFile: its lines are rows, whatever they look like.
    """
    if not root.is_dir():
        yield from _read_file(root, root.name)
        return
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if not path.is_file() or any(part.startswith(".") for part in inside.parts):
            continue
        if path.absolute().parent.name == FILES_FOLDER and FILE_NAME.fullmatch(path.name):
            yield SavedFile(path.stem, path)
        elif path.suffix.lower() in SUFFIXES:
            yield from _read_file(path, str(inside))
        else:
            yield ImportProblem(str(inside), "is neither .json nor .jsonl; it was not read.")


def _read_file(path: Path, name: str) -> Iterator[dict[str, Any] | ImportProblem]:
    try:
        lines = path.suffix.lower() in LINES or _holds_lines(path)
        yield from _from_lines(path, name) if lines else _from_document(path, name)
    except OSError as error:
        yield ImportProblem(name, f"cannot be read: {error.strerror}.")


def _holds_lines(path: Path) -> bool:
    """Tell whether a file has several lines, of which the first is a whole JSON object."""
    lines = iter_lines(chunks_of(path))
    first, second = next(lines, None), next(lines, None)
    if not isinstance(first, Line) or second is None:
        return False
    try:
        return isinstance(parse_json(first.raw), dict)
    except BadJSON:
        return False


def chunks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            yield chunk


def _from_lines(path: Path, name: str) -> Iterator[dict[str, Any] | ImportProblem]:
    found = 0
    for line in iter_lines(chunks_of(path)):
        place = f"{name}, line {line.number}"
        if isinstance(line, BadRow):
            yield ImportProblem(place, f"{line.message}.")
            continue
        try:
            value = parse_json(line.raw)
        except BadJSON as error:
            yield ImportProblem(place, f"is cut off or no JSON: {error}.")
            continue
        for one in _objects_in(value):
            found += 1
            yield one
    if not found:
        yield ImportProblem(name, "holds no eval, run or output item.")


def _from_document(path: Path, name: str) -> Iterator[dict[str, Any] | ImportProblem]:
    if path.stat().st_size > DOCUMENT_BYTES:
        yield ImportProblem(
            name, f"is one document of more than {DOCUMENT_BYTES:,} bytes: use JSONL."
        )
        return
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        yield ImportProblem(name, "is empty.")
        return
    try:
        value = parse_json(data)
    except BadJSON as error:
        yield ImportProblem(name, f"is cut off or no JSON: {error}.")
        return
    if isinstance(value, dict) and value.get("object") == MANIFEST:
        return
    found = 0
    for one in _objects_in(value):
        found += 1
        yield one
    if not found and not _is_empty_page(value):
        yield ImportProblem(name, "holds no eval, run or output item.")


def _is_empty_page(value: Any) -> bool:
    return value == [] or (isinstance(value, dict) and value.get("data") == [])


def _objects_in(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and value.get("object") in OBJECTS:
        yield value
    elif isinstance(value, (dict, list)) and depth < DEPTH:
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _objects_in(inner, depth + 1)


class ItemSpool:
    """A store of output items on disk until their run is known, in the order of their rows."""

    def __init__(self) -> None:
        # The path "" is a database of SQLite's own, on disk where it is large, gone when closed.
        self.database = sqlite3.connect("")
        self.database.execute(
            "CREATE TABLE item (run TEXT, id TEXT, place INTEGER, body TEXT, UNIQUE (run, id))"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()

    def put(
        self, run_id: str, item_id: str | None, place: int | None, item: dict[str, Any]
    ) -> bool:
        """Store an item. Returns False when it is there already, as when two pages overlap."""
        row = (run_id, item_id, place, dump_json(item))
        added = self.database.execute("INSERT OR IGNORE INTO item VALUES (?, ?, ?, ?)", row)
        return added.rowcount > 0

    def runs(self) -> list[str]:
        return [run for (run,) in self.database.execute("SELECT DISTINCT run FROM item")]

    def count(self, run_id: str) -> int:
        found = self.database.execute("SELECT count(*) FROM item WHERE run = ?", (run_id,))
        return int(found.fetchone()[0])

    def items(self, run_id: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the run's items with the index of their row; items without an index come last."""
        query = "SELECT place, body FROM item WHERE run = ? ORDER BY place IS NULL, place, rowid"
        last = -1
        with closing(self.database.cursor()) as cursor:
            for place, body in cursor.execute(query, (run_id,)):
                last = last + 1 if place is None else place
                yield last, parse_json(body)
