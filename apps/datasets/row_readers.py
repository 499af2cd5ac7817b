"""Read the rows of a file in any format we know: JSONL, a JSON array, CSV or Parquet."""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO

from apps.datasets.tabular import MAX_LINE_BYTES, BadRow, Row, read_csv, read_jsonl
from apps.strict_json import dump_json, parse_json

READ_BYTES = 1024 * 1024
PARQUET_ROWS = 1_000

_BLANK = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}


class BadFile(ValueError):
    """A file that cannot be read as rows; the message names it and the place."""


@dataclass(frozen=True)
class RowFile:
    """A file that can be read from its beginning as often as one likes.

    label: what its user calls it. format: one of FORMATS.
    """

    label: str
    format: str
    open: Callable[[], BinaryIO]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Its rows in order, a few in memory at a time. Raises BadFile at the first bad one."""
        reader, unit = READERS[self.format]
        try:
            with self.open() as file:
                for row in reader(file):
                    if isinstance(row, BadRow):
                        raise BadFile(f"{self.label}: {unit} {row.line}: {row.message}")
                    yield row.value
        except _WholeFileFault as error:
            raise BadFile(f"{self.label}: {error}") from error
        except OSError as error:
            raise BadFile(f"{self.label}: {error.strerror or error}") from error


def format_of(filename: str) -> str | None:
    """The format that the name's ending tells, or None."""
    return SUFFIXES.get(PurePath(filename).suffix.lower())


class _WholeFileFault(Exception):
    """What is wrong is not wrong with one row."""


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(READ_BYTES):
        yield piece


def _read_jsonl(file: BinaryIO) -> Iterator[Row | BadRow]:
    return read_jsonl(_pieces(file))


def _read_csv(file: BinaryIO) -> Iterator[Row | BadRow]:
    return read_csv(_pieces(file))


def _read_array(file: BinaryIO) -> Iterator[Row | BadRow]:
    window = _Window(file)
    if window.take() != "[":
        raise _WholeFileFault("this must be a JSON array of objects; an object a line is JSONL")
    number, mark = 0, ","
    if window.peek() == "]":
        mark = window.take()
    while mark == ",":
        number += 1
        yield _element(window, number)
        mark = window.take()
    if mark != "]":
        raise _WholeFileFault(f"after row {number:,} comes neither a comma nor the array's end")
    if window.peek():
        raise _WholeFileFault("something comes after the array's end")


def _element(window: "_Window", number: int) -> Row | BadRow:
    try:
        value = parse_json(window.next_value())
    except json.JSONDecodeError as error:
        return BadRow(number, error.msg)
    except RecursionError:
        return BadRow(number, "nested too deep")
    except ValueError as error:
        return BadRow(number, str(error))
    if isinstance(value, dict):
        return Row(number, value)
    return BadRow(number, "a row must be a JSON object")


class _Window:
    """The text of a file from some place on, as far as it was asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._ended = False

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ""

    def take(self) -> str:
        character = self.peek()
        self._at += len(character)
        return character

    def next_value(self) -> str:
        """The text of the next JSON value. Raises ValueError or RecursionError where none is."""
        self.peek()
        while True:
            try:
                _, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError):
                # Perhaps its end was not read yet; a value is bounded like a line of JSONL.
                if len(self._text) - self._at > MAX_LINE_BYTES or not self._read_on():
                    raise
            else:
                value, self._at = self._text[self._at : end], end
                return value

    def _read_on(self) -> bool:
        if self._ended:
            return False
        data = self._file.read(READ_BYTES)
        self._ended = not data
        try:
            text = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise _WholeFileFault(f"not valid UTF-8: {error.reason}") from None
        self._text = self._text[self._at :] + text
        self._at = 0
        return True


def _read_parquet(file: BinaryIO) -> Iterator[Row | BadRow]:
    try:
        # Weighs more than all the rest, starts threads, and most installations have no use for it.
        import pyarrow  # noqa: PLC0415  as the comment says
        import pyarrow.parquet  # noqa: PLC0415  as above
    except ImportError:
        raise _WholeFileFault(NO_PYARROW) from None
    try:
        table = pyarrow.parquet.ParquetFile(file)
        names = table.schema_arrow.names
        if len(set(names)) < len(names):
            raise _WholeFileFault("two columns have the same name")
        batches = table.iter_batches(batch_size=PARQUET_ROWS, use_threads=False)
        rows = (row for batch in batches for row in batch.to_pylist())
        yield from _plain_rows(rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise _WholeFileFault(f"not readable as Parquet: {error}") from error


NO_PYARROW = "Parquet needs pyarrow: install it with pip install 'evalplatform[parquet]'."


def _plain_rows(rows: Iterable[dict[str, Any]]) -> Iterator[Row | BadRow]:
    for number, row in enumerate(rows, start=1):
        try:
            # There and back: what JSON can hold is what our own reader of JSON lets through.
            plain = {name: _plain(value) for name, value in row.items()}
            yield Row(number, parse_json(dump_json(plain)))
        except ValueError as error:
            yield BadRow(number, str(error))


def _plain(value: Any) -> Any:
    """A cell as a JSON value: what JSON has no word for becomes text, NaN and infinities null.

    A struct has every field in every row, so that a null in it is a field that is not there.
    """
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, bytes):
        return value.decode()
    return value if value is None or isinstance(value, str | bool | int) else str(value)


# A format -> its reader, and what that counts.
READERS: dict[str, tuple[Callable[[BinaryIO], Iterator[Row | BadRow]], str]] = {
    "jsonl": (_read_jsonl, "line"),
    "json": (_read_array, "row"),
    "csv": (_read_csv, "line"),
    "parquet": (_read_parquet, "row"),
}
FORMATS = tuple(READERS)
