"""Read the rows of a file in any format we know: JSONL, a JSON array, CSV or Parquet."""

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePath
from typing import Any, BinaryIO

from apps.datasets.tabular import (
    BYTE_ORDER_MARK,
    MAX_LINE_BYTES,
    BadRow,
    Row,
    read_csv,
    read_jsonl,
)
from apps.strict_json import dump_json, parse_json

READ_BYTES = 1024 * 1024
PARQUET_ROWS = 1_000

_BLANK = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()

Rows = Iterator[Row | BadRow]


class BadFile(Exception):
    """A file cannot be read as rows, for a reason that is not one row's; the message tells it."""


@dataclass(frozen=True)
class FileFormat:
    """A format of files of rows. read: takes the file where it must seek in it, else its bytes.

    A reader raises BadFile for what is wrong with the whole file, and reads a part at a time.
    """

    endings: tuple[str, ...]
    read: Callable[[Any], Rows]
    needs_file: bool = False

    def read_file(self, file: BinaryIO) -> Rows:
        return self.read(file if self.needs_file else _pieces(file))


@dataclass(frozen=True)
class RowFile:
    """A file that can be read from its beginning as often as one likes.

    label: what its user calls it. format: a key of FORMATS.
    """

    label: str
    format: str
    open: Callable[[], BinaryIO]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in order, a few at a time. Raises BadFile at the first bad one."""
        try:
            with self.open() as file:
                for row in FORMATS[self.format].read_file(file):
                    if isinstance(row, BadRow):
                        raise BadFile(f"{row.place}: {row.message}")
                    yield row.value
        except BadFile as error:
            raise BadFile(f"{self.label}: {error}") from error
        except OSError as error:
            raise BadFile(f"{self.label}: {error.strerror or error}") from error


def format_of(filename: str) -> str | None:
    """Tell the key in FORMATS by the name's ending; None when it is none we read."""
    ending = PurePath(filename).suffix.lower()
    return next((name for name, one in FORMATS.items() if ending in one.endings), None)


def stream_format_of(filename: str) -> str:
    """Tell the key in STREAMED by the name's ending; ValueError when it is none of theirs."""
    name = format_of(filename)
    if name not in STREAMED:
        endings = ", ".join(ending for one in STREAMED.values() for ending in one.endings)
        raise ValueError(f"{filename}: the name must end in {endings}")
    return name


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(READ_BYTES):
        yield piece


def read_json(chunks: Iterable[bytes]) -> Rows:
    """Read the objects of a JSON array; what does not begin with a bracket is read as JSONL.

    Files of both kinds are called .json.
    """
    source = iter(chunks)
    head: list[bytes] = []
    size, begin = 0, b""
    for chunk in source:
        head.append(chunk)
        size += len(chunk)
        begin = (begin + chunk).removeprefix(BYTE_ORDER_MARK).lstrip(b" \t\r\n")
        is_told = begin and not BYTE_ORDER_MARK.startswith(begin)
        if is_told or size > MAX_LINE_BYTES:
            break
    read = _read_array if begin.startswith(b"[") else read_jsonl
    return read(chain(head, source))


def _read_array(chunks: Iterable[bytes]) -> Rows:
    window = _Window(chunks)
    window.take()
    number, mark = 0, ","
    if window.peek() == "]":
        mark = window.take()
    while mark == ",":
        number += 1
        yield _element(window, number)
        mark = window.take()
    if mark != "]":
        raise BadFile(f"after row {number:,} comes neither a comma nor the array's end")
    if window.peek():
        raise BadFile("something comes after the array's end")


def _element(window: "_Window", number: int) -> Row | BadRow:
    try:
        value = parse_json(window.next_value())
    except json.JSONDecodeError as error:
        return BadRow(number, error.msg, "row")
    except RecursionError:
        return BadRow(number, "nested too deep", "row")
    except ValueError as error:
        return BadRow(number, str(error), "row")
    if isinstance(value, dict):
        return Row(number, value, "row")
    return BadRow(number, "a row must be a JSON object", "row")


class _Window:
    """The part of a file's text that has been read and not yet been used."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._ended = False

    def peek(self) -> str:
        """Return the next character that is no white space; "" at the end."""
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
        """Take the text of the next JSON value. Raises ValueError or RecursionError."""
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
        data = next(self._chunks, b"")
        self._ended = not data
        try:
            text = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise BadFile(f"not valid UTF-8: {error.reason}") from None
        self._text = self._text[self._at :] + text
        self._at = 0
        return True


def _read_parquet(file: BinaryIO) -> Rows:
    try:
        # Weighs more than all the rest, starts threads, and most installations have no use for it.
        import pyarrow  # noqa: PLC0415  as the comment says
        import pyarrow.parquet  # noqa: PLC0415  as above
    except ImportError:
        raise BadFile(NO_PYARROW) from None
    try:
        table = pyarrow.parquet.ParquetFile(file)
        names = table.schema_arrow.names
        if len(set(names)) < len(names):
            raise BadFile("two columns have the same name")
        batches = table.iter_batches(batch_size=PARQUET_ROWS, use_threads=False)
        rows = (row for batch in batches for row in batch.to_pylist())
        yield from _plain_rows(rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise BadFile(f"not readable as Parquet: {error}") from error


NO_PYARROW = "Parquet needs pyarrow: install it with pip install 'evalplatform[parquet]'."


def _plain_rows(rows: Iterable[dict[str, Any]]) -> Rows:
    for number, row in enumerate(rows, start=1):
        try:
            # There and back: what JSON can hold is what our own reader of JSON lets through.
            plain = {name: _plain(value) for name, value in row.items()}
            yield Row(number, parse_json(dump_json(plain)), "row")
        except ValueError as error:
            yield BadRow(number, str(error), "row")


def _plain(value: Any) -> Any:
    """Turn a cell into a JSON value: NaN and infinities become null, what JSON lacks becomes text.

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


# The one table of what is read, by which ending, and how.
FORMATS: dict[str, FileFormat] = {
    "jsonl": FileFormat((".jsonl", ".ndjson"), read_jsonl),
    "json": FileFormat((".json",), read_json),
    "csv": FileFormat((".csv",), read_csv),
    "parquet": FileFormat((".parquet",), _read_parquet, needs_file=True),
}
STREAMED = {name: one for name, one in FORMATS.items() if not one.needs_file}
