"""Read rows out of Parquet, where pyarrow is installed."""

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from apps.datasets.tabular import BadRow, Row
from apps.datasets.unpacking import BadFile, check_size
from apps.strict_json import dump_json, parse_json

PARQUET_ROWS = 1_000
NO_PYARROW = "Parquet needs pyarrow: install it with pip install 'evalplatform[parquet]'."
# The index of a table that has no name is kept under this one, and a number.
INDEX = "__index_level_"

Rows = Iterator[Row | BadRow]


def read_parquet(file: BinaryIO) -> Rows:
    """Read the rows, some at a time. Raises BadFile."""
    try:
        # Weighs more than all the rest, starts threads, and most installations have no use for it.
        import pyarrow  # noqa: PLC0415  as the comment says
        import pyarrow.parquet  # noqa: PLC0415  as above
    except ImportError:
        raise BadFile(NO_PYARROW) from None
    try:
        table = pyarrow.parquet.ParquetFile(file)
        _check_bounds(file, table.metadata)
        names = table.schema_arrow.names
        if len(set(names)) < len(names):
            raise BadFile("two columns have the same name")
        kept = [name for name in names if not name.startswith(INDEX)] or names
        batches = table.iter_batches(batch_size=PARQUET_ROWS, use_threads=False, columns=kept)
        rows = (row for batch in batches for row in batch.to_pylist())
        yield from plain_rows(rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise BadFile(f"not readable as Parquet: {error}") from error


def _check_bounds(file: BinaryIO, metadata: Any) -> None:
    groups = range(metadata.num_row_groups)
    unpacked = sum(metadata.row_group(group).total_byte_size for group in groups)
    place = file.tell()
    packed = file.seek(0, 2)
    file.seek(place)
    check_size(packed, unpacked)


def plain_rows(rows: Iterable[dict[str, Any]], first: int = 1) -> Rows:
    """Turn cells of any type into JSON values; a row that cannot be is a BadRow."""
    for number, row in enumerate(rows, start=first):
        try:
            # There and back: what JSON can hold is what our own reader of JSON lets through.
            plain = {name: _plain(value) for name, value in row.items()}
            yield Row(number, parse_json(dump_json(plain)), "row")
        except ValueError as error:
            yield BadRow(number, str(error), "row", repr(row).encode(errors="replace"))


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
