"""Write records as a Parquet file, where pyarrow is installed."""

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from apps.datasets.parquet_rows import NO_PYARROW

try:
    import pyarrow
    import pyarrow.parquet
except ImportError:  # an extra: it weighs more than all the rest
    pyarrow = None

GROUP_ROWS = 5_000


class NoParquet(Exception):
    """pyarrow is not installed."""


def write_parquet(
    path: Path, records: Iterable[Mapping[str, Any]], columns: Mapping[str, str]
) -> None:
    """Write records with these columns, a group of them in memory at a time. Raises NoParquet.

    columns: name -> bool, int64, double, string, texts (a list of them) or numbers (by text).
    """
    if pyarrow is None:
        raise NoParquet(NO_PYARROW)
    others = {
        "texts": lambda: pyarrow.list_(pyarrow.string()),
        "numbers": lambda: pyarrow.map_(pyarrow.string(), pyarrow.float64()),
    }
    schema = pyarrow.schema(
        [
            (name, others[kind]() if kind in others else pyarrow.type_for_alias(kind))
            for name, kind in columns.items()
        ]
    )
    waiting = iter(records)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(waiting, GROUP_ROWS)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
