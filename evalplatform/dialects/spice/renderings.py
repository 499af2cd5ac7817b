"""Render a finished run as JSON, CSV or a table, and choose by the Accept header; pure."""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

JSON, CSV, TABLE = "application/json", "text/csv", "text/plain"
# In the order in which we choose where a request leaves it to us.
MADE = (JSON, CSV, TABLE)
TEXT = "text/plain; charset=utf-8"
CONTENT_TYPES = {JSON: JSON, CSV: "text/csv; charset=utf-8", TABLE: TEXT}

LINE_BREAK = re.compile("\r\n|[\n\r\t\v\f\x1c-\x1e\x85\u2028\u2029]")

# A run in the answer: its eight fields in the contract's order.
Record = Mapping[str, Any]


def negotiate(accept: str | None) -> str:
    """Choose the media type of the answer: JSON where nothing that we make is accepted.

    The highest q wins, then a type that is named over one that a wildcard covers, then the first
    that is named. Source: docs/contracts/spice.md, section 5.
    """
    ranges = [_read_range(part) for part in (accept or "*/*").split(",")]
    best, best_rank = JSON, (0.0, False, 0)
    for ours in MADE:
        rank = _rank(ours, ranges)
        if rank > best_rank and rank[0] > 0:
            best, best_rank = ours, rank
    return best


def _read_range(part: str) -> tuple[str, float]:
    kind, *parameters = (word.strip() for word in part.lower().split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return kind, min(max(float(value), 0.0), 1.0)
            except ValueError:
                return kind, 1.0
    return kind, 1.0


def _rank(ours: str, ranges: list[tuple[str, float]]) -> tuple[float, bool, int]:
    """Rank a type by the most specific range that covers it: (q, named in full, earliness)."""
    family = ours.partition("/")[0]
    for wanted in (ours, f"{family}/*", "*/*"):
        for index, (kind, quality) in enumerate(ranges):
            if kind == wanted:
                return quality, wanted == ours, -index if wanted == ours else 0
    return 0.0, False, 0


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def as_csv(record: Record) -> str:
    """Write two records that end in a line feed: names and values. Null is empty, the rest JSON."""
    values = ["" if value is None else _quotable(value) for value in record.values()]
    return _csv_record(record) + _csv_record(values)


def _csv_record(fields: Iterable[str]) -> str:
    text = io.StringIO()
    # Written with CR LF, since the terminator's characters are those that get quoted.
    csv.writer(text, lineterminator="\r\n").writerow(fields)
    return text.getvalue().removesuffix("\r\n") + "\n"


def _quotable(value: Any) -> str:
    return value if isinstance(value, str) else as_json(value)


def as_table(record: Record) -> str:
    """Draw five lines: a border, the names, a border, the values, a border."""
    names = list(record)
    cells = [LINE_BREAK.sub(" ", _plain(value)) for value in record.values()]
    widths = [max(_width(name), _width(cell)) for name, cell in zip(names, cells, strict=True)]
    border = "+" + "".join(f"{'-' * (width + 2)}+" for width in widths)
    lines = [border, _line(names, widths), border, _line(cells, widths), border]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(value) if isinstance(value, list) else _quotable(value)


def _line(cells: list[str], widths: list[int]) -> str:
    padded = (
        cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)
    )
    return "|" + "".join(f" {cell} |" for cell in padded)


def _width(text: str) -> int:
    """Return the columns of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


RENDER = {JSON: as_json, CSV: as_csv, TABLE: as_table}
