"""Write a run as a Parquet file, where pyarrow is installed."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from apps.datasets.formats import dump_json
from apps.datasets.row_files import NO_PYARROW
from apps.evaluations.exports import columns, rows
from apps.evaluations.models import Run

try:
    import pyarrow
    import pyarrow.parquet
except ImportError:  # an extra: it weighs more than all the rest
    pyarrow = None

GROUP_ROWS = 5_000


class NoParquet(Exception):
    """pyarrow is missing."""


def write_parquet(run: Run, path: Path) -> None:
    """Items go in as JSON text; a group of rows in memory at a time. Raises NoParquet."""
    if pyarrow is None:
        raise NoParquet(NO_PYARROW)
    schema = pyarrow.schema([(name, _type_of(name)) for name in columns(run)])
    records = _records(run)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(records, GROUP_ROWS)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def _records(run: Run) -> Iterator[dict[str, Any]]:
    for row in rows(run):
        yield {**row, "item": dump_json(row["item"])}


def _type_of(column: str) -> Any:
    if column in {"row_index", "repeat"}:
        return pyarrow.int64()
    if column.endswith(".score"):
        return pyarrow.float64()
    if column.endswith(".passed"):
        return pyarrow.bool_()
    return pyarrow.string()
