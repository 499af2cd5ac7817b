"""Look through all rows of a run: compare their items, or search them for a text."""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from django.db.models import QuerySet

from apps.datasets.models import TestCase
from apps.datasets.stored_files import read_file
from apps.evaluations.models import Run, Shard
from apps.evaluations.targets import Row
from apps.strict_json import parse_json


def item_hashes(run: Run, shards: Iterable[Shard]) -> Iterator[tuple[int, list[int]]]:
    """Yield each shard's first row with a number for each row, which equal items have alone.

    shards: in the order of the rows. The order of an item's keys does not change its number, which
    is another in each process.
    """
    # Checked when they were planned, so the quicker parser does; it makes floats of integers
    # beyond 64 bits, of those that are compared too.
    for first_row, items in _item_texts(run, shards):
        yield (
            first_row,
            [hash(orjson.dumps(item, option=orjson.OPT_SORT_KEYS)) for item in items],
        )


def _item_texts(run: Run, shards: Iterable[Shard]) -> Iterator[tuple[int, Iterable[Any]]]:
    if run.source_version is not None:
        for shard in shards:
            items = _cases(run, shard).values_list("item", flat=True)
            yield shard.first_row, map(orjson.loads, items)
        return
    for shard, text in _texts(run, shards):
        yield shard.first_row, (orjson.loads(line)["item"] for line in _lines(text))


def rows_holding(run: Run, shards: Iterable[Shard], text: str) -> Iterator[Row]:
    """Yield the rows whose JSON holds this text, or may hold it in another spelling.

    shards: in the order of the rows.
    """
    if run.source_version is not None:
        for shard in shards:
            pairs = _cases(run, shard).values_list("item", "sample")
            for index, (item, sample) in enumerate(pairs, shard.first_row):
                if text in item or "\\" in item:
                    yield Row(index, parse_json(item), parse_json(sample) if sample else None)
        return
    wanted = text.encode()
    for shard, lines in _texts(run, shards):
        if wanted not in lines and b"\\" not in lines:
            continue
        for index, line in enumerate(_lines(lines), shard.first_row):
            if wanted in line or b"\\" in line:
                row = parse_json(line)
                yield Row(index, row["item"], row.get("sample"))


def _texts(run: Run, shards: Iterable[Shard]) -> Iterator[tuple[Shard, bytes]]:
    """Yield shards with their lines, and read each piece of the file once."""
    assert run.source_file_id is not None
    pieces: Iterator[bytes] = iter(())
    held, base = b"", -1
    for shard in shards:
        if base < 0:
            base = shard.start
            pieces = read_file(run.source_file_id, base)
        while base + len(held) < shard.stop and (piece := next(pieces, b"")):
            held += piece
        yield shard, held[shard.start - base : shard.stop - base]
        held, base = held[shard.stop - base :], shard.stop


def _lines(text: bytes) -> Iterator[bytes]:
    return (line for line in text.split(b"\n") if line and not line.isspace())


def _cases(run: Run, shard: Shard) -> QuerySet[TestCase]:
    assert run.source_version is not None
    return run.source_version.cases(shard.start).filter(position__lt=shard.stop)
