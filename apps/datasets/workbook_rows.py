"""Read rows out of the first sheet of a workbook (.xlsx)."""

import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from itertools import chain
from typing import Any, BinaryIO

from apps.datasets.parquet_rows import plain_rows
from apps.datasets.sniffing import INDEX, UNNAMED
from apps.datasets.tabular import BadRow, Row, header_fault
from apps.datasets.unpacking import BadFile

# Its texts are held in memory, so it is bounded however large its packed size.
UNPACKED_BYTES = 128 * 1024 * 1024
MOST_COLUMNS = 1_000

Rows = Iterator[Row | BadRow]


def read_workbook(file: BinaryIO) -> Rows:
    """Read the rows of the first visible sheet that has any, under its first one.

    Numbers, truth values and texts stay what they are; a date becomes a text, an empty cell the
    empty text, and a formula the value that it had when the file was saved. Rows without a cell
    are skipped. Raises BadFile.
    """
    with _opened(file) as book:
        sheet, first = _sheet_of(book)
        header = next(sheet.iter_rows(first, first, 1, MOST_COLUMNS + 1, values_only=True))
        names = _without_empty_end(list(header))
        if len(names) > MOST_COLUMNS:
            raise BadFile(f"it has more than {MOST_COLUMNS:,} columns")
        # One more, to notice a row that is too long.
        rows = sheet.iter_rows(first + 1, None, 1, len(names) + 1, values_only=True)
        yield from _under_header(names, map(list, rows), first + 1)


def sheet_name(file: BinaryIO) -> str:
    """Return the name of the sheet that `read_workbook` reads. Raises BadFile."""
    with _opened(file) as book:
        return str(_sheet_of(book)[0].title)


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Any]:
    _check_bounds(file)
    # It costs a fifth of a second to import, and few files are workbooks.
    from openpyxl import load_workbook  # noqa: PLC0415  as the comment says

    with warnings.catch_warnings():
        # It warns of styles and extensions that it does not know, which hold no cells.
        warnings.simplefilter("ignore")
        try:
            yield load_workbook(file, read_only=True, data_only=True, keep_links=False)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, SyntaxError) as error:
            raise BadFile(f"not readable as a workbook: {error}") from error


def _sheet_of(book: Any) -> tuple[Any, int]:
    """Return the first visible sheet that has a row with a cell, and that row's number."""
    for sheet in book.worksheets:
        if sheet.sheet_state == "visible":
            # What the file says of its own size need not be true.
            sheet.reset_dimensions()
            rows = sheet.iter_rows(max_col=MOST_COLUMNS, values_only=True)
            for number, row in enumerate(rows, start=1):
                if any_cell(row):
                    return sheet, number
    raise BadFile("no sheet of the workbook has a row")


def _check_bounds(file: BinaryIO) -> None:
    """Refuse a workbook that is too large unpacked; no more is ever unpacked than it declares."""
    try:
        with zipfile.ZipFile(file) as packed:
            size = sum(member.file_size for member in packed.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BadFile(f"not readable as a workbook: {error}") from None
    if size > UNPACKED_BYTES:
        raise BadFile(f"unpacked it is larger than {UNPACKED_BYTES:,} bytes: save it as CSV")


def _under_header(names: list[Any], rows: Iterator[list[Any]], number: int) -> Rows:
    """Read the rows that come from this number on."""
    header = [str(_plain(name)) for name in names]
    filled = (
        (at, _without_empty_end(row)) for at, row in enumerate(rows, start=number) if any_cell(row)
    )
    first = next(filled, None)
    start = 0
    if len(header) > 1 and header[0] in {"", UNNAMED}:
        if first is not None and isinstance(first[1][0], int | float):
            start = 1
        else:
            header[0] = header[0] or INDEX
    if fault := header_fault(header[start:]):
        yield BadRow(number - 1, fault, "row")
        return
    for at, cells in chain([] if first is None else [first], filled):
        if len(cells) > len(header):
            raw = repr(cells).encode(errors="replace")
            fault = f"more cells than the header's {len(header)}"
            yield BadRow(at, fault, "row", raw)
            continue
        cells += [None] * (len(header) - len(cells))
        plain = {name: _plain(cell) for name, cell in zip(header, cells, strict=True)}
        for name in header[:start]:
            del plain[name]
        yield from plain_rows([plain], at)


def any_cell(row: Iterable[Any]) -> bool:
    return any(cell is not None for cell in row)


def _without_empty_end(cells: list[Any]) -> list[Any]:
    last = max((at for at, cell in enumerate(cells) if cell is not None), default=-1)
    return cells[: last + 1]


def _plain(cell: Any) -> Any:
    if cell is None:
        return ""
    if isinstance(cell, datetime) and cell.time() == time():
        return cell.date().isoformat()
    return cell.isoformat() if isinstance(cell, date | time) else cell
