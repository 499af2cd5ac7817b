"""Tell by the beginning of a file what kind of rows it holds, and how its cells are parted."""

import csv
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from apps.datasets import json_rows
from apps.datasets.tabular import BYTE_ORDER_MARK
from apps.datasets.unpacking import BadFile

HEAD_BYTES = json_rows.HEAD_BYTES
RECORDS = 200  # of a table are looked at
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# The library that writes a table's index without a name reads it back under this one.
UNNAMED = "Unnamed: 0"
INDEX = "index"

_MAGICS = {b"PAR1": "parquet", b"PK\x03\x04": "xlsx"}


@dataclass(frozen=True)
class Shape:
    """The kind of a file's rows. told: as a phrase after "read as".

    format: a key of FORMATS. delimiter, index: for read_csv.
    """

    format: str
    told: str
    delimiter: str = ","
    index: str | None = None


def magic_format(head: bytes) -> str:
    """Return the format of a file that is no text; "" of a text."""
    return next((name for magic, name in _MAGICS.items() if head.startswith(magic)), "")


def sniff_text(
    head: bytes, *, is_whole: bool, format: str = "", ending: str = "", delimiter: str = ""
) -> Shape:
    """Tell the shape of a text from its beginning, in UTF-8.

    is_whole: nothing comes after the head. format, delimiter: what the user says. ending: the
    format that the file's name tells, which decides only where the content does not. Raises
    BadFile, which asks, where two delimiters fit equally well.
    """
    if format == "csv" or (delimiter and not format):
        return _table(head, is_whole, delimiter, ending)
    if format == "jsonl":
        return Shape("jsonl", "JSONL")
    shape = json_rows.shape_of(head, is_whole=is_whole)
    if shape == json_rows.ARRAY and not (ending == "csv" and not _holds_objects(head)):
        return Shape("json", "a JSON array")
    if shape == json_rows.OBJECTS:
        return Shape("json", "JSON objects")
    if shape != json_rows.LINES and shape != json_rows.ARRAY:
        return Shape("json", f"a JSON object whose {shape[:60]!r} is the list of rows")
    if format == "json" or _text(head).startswith("{"):
        return Shape("jsonl", "JSONL")
    table = _table(head, is_whole, delimiter, ending)
    # One column is what any text is.
    if ending in {"jsonl", "json"} and not table.is_certain:
        return Shape("jsonl", "JSONL")
    return table


@dataclass(frozen=True)
class Table(Shape):
    """The shape of a table. is_certain: several records have its several columns."""

    is_certain: bool = False


def _text(head: bytes) -> str:
    return head.removeprefix(BYTE_ORDER_MARK).decode(errors="replace").lstrip()


def _holds_objects(head: bytes) -> bool:
    return _text(head)[1:].lstrip()[:1] in {"{", "]"}


def _table(head: bytes, is_whole: bool, delimiter: str, ending: str) -> Table:
    text = head.removeprefix(BYTE_ORDER_MARK).decode(errors="replace")
    if delimiter:
        return _described(delimiter, list(_records(text, is_whole, delimiter)))
    fits: list[tuple[float, int, str, list[list[str]]]] = []
    for one in DELIMITERS:
        records = list(_records(text, is_whole, one))
        width = len(records[0]) if records else 0
        if width < 2:
            continue
        rest = records[1:]
        share = sum(len(record) == width for record in rest) / len(rest) if rest else 1.0
        if not share and one != ",":
            continue  # it stands in a name, and in no record
        fits.append((share, width, one, records))
    if not fits:
        return _described(",", list(_records(text, is_whole, ",")))
    best = max(fits, key=lambda fit: fit[:2])
    equal = [fit for fit in fits if fit[:2] == best[:2]]
    if len(equal) > 1 and ending != "tsv":
        names = " or by ".join(DELIMITERS[fit[2]] for fit in equal)
        raise BadFile(f"its cells may be parted by {names}", "delimiter")
    tab = next((fit for fit in equal if fit[2] == "\t"), best)
    return _described(tab[2], tab[3])


def _described(delimiter: str, records: list[list[str]]) -> Table:
    header, *rest = records or [[]]
    index = _index_of(header, rest)
    width = len(header) - (index == "")
    parts = [f"CSV with {DELIMITERS.get(delimiter, repr(delimiter))}"] if width > 1 else ["CSV"]
    parts.append(f"{width} column{'' if width == 1 else 's'}")
    if index == "":
        parts.append("its first column, an index of rows, left out")
    elif index:
        parts.append(f"its first column, which has no name, called {index!r}")
    same = sum(len(record) == len(header) for record in rest)
    certain = len(header) > 1 and bool(rest) and same == len(rest)
    return Table("csv", ", ".join(parts), delimiter, index, certain)


def _index_of(header: list[str], records: list[list[str]]) -> str | None:
    """Tell what to do with the first column, as `read_csv` wants to hear it."""
    if len(header) < 2 or header[0] not in {"", UNNAMED}:
        return None
    cells = [record[0] for record in records if record]
    if cells and all(cell.isascii() and cell.isdigit() for cell in cells):
        numbers = list(map(int, cells))
        # Of a table that was filtered some are missing.
        if all(one < other for one, other in itertools.pairwise(numbers)):
            return ""
    return None if header[0] or INDEX in header else INDEX


def _records(text: str, is_whole: bool, delimiter: str) -> Iterator[list[str]]:
    """Yield the first records, without the last, which may be cut off where there is more."""
    held: list[str] | None = None
    count = 0
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if not cells:
                continue
            if held is not None:
                yield held
                count += 1
            held = cells
            if count == RECORDS:
                return
    except csv.Error:
        return
    if held is not None and (is_whole or not count):
        yield held


def describe_content(head: bytes, *, is_whole: bool) -> str:
    """Say what a file that should be JSONL in UTF-8 seems to be; "" when it is that.

    A file whose first line is broken JSON is JSONL with a fault.
    """
    magic = magic_format(head)
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if magic:
        return {"parquet": "Parquet", "xlsx": "a workbook of a spreadsheet (or another zip)"}[magic]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:4096]:
        return "UTF-16 text" if head[:2] in {b"\xff\xfe", b"\xfe\xff"} else "no text in UTF-8"
    if not head.strip() or _text(head).startswith("{"):
        shape = json_rows.shape_of(head, is_whole=is_whole)
        if shape == json_rows.OBJECTS:
            return "JSON objects of several lines each"
        return f"one JSON object whose {shape[:60]!r} is a list of rows" if shape else ""
    if _text(head).startswith("["):
        return "a JSON array"
    try:
        table = _table(head, is_whole, "", "")
    except BadFile:
        return "CSV"
    return table.told if table.is_certain else ""
