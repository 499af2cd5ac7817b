"""Read rows out of streams of JSONL or CSV, and write them."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple, Self

from apps.strict_json import BadJSON, dump_json, parse_json

MAX_LINE_BYTES = 16 * 1024 * 1024
WRITE_BYTES = 64 * 1024

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# A cell that a spreadsheet would run as a formula begins with one of these.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

# The reader's own limit is 128 KiB and global to the process; ours is per record, see _Lines.
csv.field_size_limit(MAX_LINE_BYTES)


class Line(NamedTuple):
    """A line of a stream: its number from 1, and `raw`, the stream's bytes [start, stop)."""

    number: int
    start: int
    stop: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class BadRow:
    """The reason why a row cannot be taken.

    number: counts from 1, in `unit`: the line that the row begins on, or which row it is. raw: the
    row as it stands in the file, empty where it was too long to be held.
    """

    number: int
    message: str
    unit: str = "line"
    raw: bytes = field(default=b"", compare=False, repr=False)

    @property
    def place(self) -> str:
        return f"{self.unit} {self.number}"


class Row(NamedTuple):
    """An item, and where it stands: see BadRow."""

    number: int
    value: dict[str, Any]
    unit: str = "line"

    def refuse(self, message: str) -> BadRow:
        return BadRow(self.number, message, self.unit, dump_json(self.value).encode())


def iter_lines(chunks: Iterable[bytes], max_bytes: int = MAX_LINE_BYTES) -> Iterator[Line | BadRow]:
    r"""Split a stream into lines, without their \n or \r\n.

    Blank lines are counted and skipped, a byte order mark at the start is dropped, the last line
    need not end. A line longer than `max_bytes` is a BadRow and is never held in memory.
    """
    for line in _physical_lines(chunks, max_bytes):
        if isinstance(line, BadRow):
            yield line
            continue
        number, start, stop, raw = line
        if not raw or raw.isspace():
            continue
        yield Line(number, start, stop - 1, raw[:-1]) if raw.endswith(b"\r") else line


def read_jsonl(chunks: Iterable[bytes], max_bytes: int = MAX_LINE_BYTES) -> Iterator[Row | BadRow]:
    """Read one JSON object from each line; a line that holds none is a BadRow."""
    for line in iter_lines(chunks, max_bytes):
        if isinstance(line, BadRow):
            yield line
            continue
        try:
            value = parse_json(line.raw)
        except BadJSON as error:
            yield BadRow(line.number, str(error), raw=line.raw)
            continue
        if isinstance(value, dict):
            yield Row(line.number, value)
        else:
            yield BadRow(line.number, "a row must be a JSON object", raw=line.raw)


def read_csv(
    chunks: Iterable[bytes],
    max_bytes: int = MAX_LINE_BYTES,
    *,
    delimiter: str = ",",
    index: str | None = None,
) -> Iterator[Row | BadRow]:
    """Read records of text cells under a header; each record that does not fit it is a BadRow.

    A header that is missing, or has an empty or repeated name, is a BadRow that ends the stream.
    Blank lines are skipped. A record, its header too, may hold up to `max_bytes`.
    index: what to do with a first column that is an index of rows: "" leaves it out, a text names
    it, None takes it like any other.
    Source: RFC 4180, in UTF-8; a bare line feed ends a line too.
    """
    lines = _Lines(chunks, max_bytes)
    records = csv.reader(lines, strict=True, delimiter=delimiter)
    header: list[str] = []
    skipped = 1 if index == "" else 0
    while True:
        number = lines.begin_record()
        try:
            cells = next(records)
        except StopIteration:
            break
        except csv.Error as error:
            yield BadRow(number, _csv_fault(error), raw=lines.record())
            if not header:
                return
            continue
        if not cells:
            continue
        if not header:
            names = [index, *cells[1:]] if index else cells[skipped:]
            fault = header_fault(names)
            if fault:
                yield BadRow(number, fault, raw=lines.record())
                return
            header = names
        elif len(cells) - skipped == len(header):
            yield Row(number, dict(zip(header, cells[skipped:], strict=True)))
        else:
            fault = f"{len(cells)} cells under a header of {len(header) + skipped}"
            yield BadRow(number, fault, raw=lines.record())
    if not header:
        yield BadRow(1, "the header row is missing")


def write_jsonl(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Write one JSON object a line, in pieces of about WRITE_BYTES."""
    waiting: list[bytes] = []
    size = 0
    for row in rows:
        line = dump_json(row).encode() + b"\n"
        waiting.append(line)
        size += len(line)
        if size >= WRITE_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def write_csv(
    rows: Iterable[Mapping[str, Any]], fields: Sequence[str], *, guard_formulas: bool = False
) -> Iterator[bytes]:
    """Write a header and a record a row, in pieces of about WRITE_BYTES.

    Text goes in as it is, None and missing fields as an empty cell, everything else as JSON.
    `guard_formulas` puts an apostrophe before text that a spreadsheet would run; such a file no
    longer reads back as it was. Source: RFC 4180.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    guard = _guarded if guard_formulas else str
    writer.writerow([guard(field) for field in fields])
    for row in rows:
        writer.writerow([_cell(row.get(field), guard) for field in fields])
        if out.tell() >= WRITE_BYTES:
            yield out.getvalue().encode()
            out.seek(0)
            out.truncate()
    if out.tell():
        yield out.getvalue().encode()


def _cell(value: Any, guard: Callable[[str], str]) -> str:
    if value is None:
        return ""
    return guard(value) if isinstance(value, str) else dump_json(value)


def _guarded(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _csv_fault(error: csv.Error) -> str:
    # The reader's own words for this are advice to a programmer.
    if str(error).startswith("new-line character"):
        return "a carriage return outside quotes that does not end the line"
    return str(error)


def header_fault(names: Sequence[str]) -> str:
    if not all(names):
        return f"the header's cell {names.index('') + 1} is empty"
    if len(set(names)) < len(names):
        repeated = next(name for position, name in enumerate(names) if name in names[:position])
        return f"the header names {repeated!r} twice"
    return ""


def _physical_lines(chunks: Iterable[bytes], max_bytes: int) -> Iterator[Line | BadRow]:
    r"""Split a stream at each \n, blank lines included; a \r before it stays."""
    source = iter(chunks)
    head = b""
    while len(head) < len(BYTE_ORDER_MARK) and (chunk := next(source, None)) is not None:
        head += chunk
    start = len(BYTE_ORDER_MARK) if head.startswith(BYTE_ORDER_MARK) else 0
    number = 1
    held: list[bytes] = []
    held_bytes = 0
    # The \n at the end closes a last line that has none; after one that has, it is a blank line.
    for chunk in chain((head[start:],), source, (b"\n",)):
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            stop = start + held_bytes + len(piece)
            if stop - start > max_bytes:
                yield BadRow(number, _too_long(max_bytes))
            else:
                raw = b"".join((*held, piece)) if held else piece
                yield Line(number, start, stop, raw)
            held.clear()
            held_bytes = 0
            number += 1
            start = stop + 1
        held_bytes += len(rest)
        if held_bytes > max_bytes:
            held.clear()
        elif rest:
            held.append(rest)


def _too_long(max_bytes: int) -> str:
    return f"longer than {max_bytes:,} bytes"


class _Lines:
    """A CSV stream's lines as text, for `csv.reader`; no record may take more than `max_bytes`.

    The bound is on the record because a quote that is never closed makes one of the whole stream.
    """

    def __init__(self, chunks: Iterable[bytes], max_bytes: int) -> None:
        self._lines = _physical_lines(chunks, max_bytes)
        self._max_bytes = max_bytes
        self._room = max_bytes
        self._number = 0
        self._record: list[bytes] = []

    def begin_record(self) -> int:
        """Return the number of the line that the next record begins on."""
        self._room = self._max_bytes
        self._record = []
        return self._number + 1

    def record(self) -> bytes:
        """Return the lines of the record so far, as they stand in the file."""
        return b"\n".join(self._record)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if isinstance(line, BadRow):
            self._number = line.number
            raise csv.Error(line.message)
        self._number = line.number
        self._room -= len(line.raw)
        if self._room < 0:
            raise csv.Error(_too_long(self._max_bytes))
        self._record.append(line.raw)
        try:
            text = line.raw.decode()
        except UnicodeDecodeError as error:
            fault = f"not valid UTF-8 at byte {error.start + 1} of line {line.number}"
            raise csv.Error(fault) from None
        if "\0" in text:
            raise csv.Error(f"a NUL character in line {line.number}")
        return text + "\n"
