"""Rows are read as JSONL and CSV, line by line, and come back as they were written."""

import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.datasets.tabular import (
    BadRow,
    Line,
    Row,
    iter_lines,
    read_csv,
    read_jsonl,
    write_csv,
    write_jsonl,
)
from tests.json_values import TEXT, VALUES


def split(data: bytes, *cuts: int) -> list[bytes]:
    """Cut a stream into chunks at these places."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[low:high] for low, high in pairwise(edges)]


def test_lines_keep_their_number_and_place_though_blank_ones_are_skipped():
    data = b"\xef\xbb\xbfone\r\n\n  \r\ntwo\n\nlast"
    lines = list(iter_lines([data]))
    assert [(line.number, line.raw) for line in lines] == [(1, b"one"), (4, b"two"), (6, b"last")]
    for line in lines:
        assert data[line.start : line.stop] == line.raw


@given(
    lines=st.lists(st.sampled_from([b"", b" ", b"a", b"bcd", b"\xc3\xa4", b"\xef\xbb\xbf"])),
    ending=st.sampled_from([b"\n", b"\r\n"]),
    final=st.booleans(),
    mark=st.booleans(),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_lines_do_not_depend_on_how_the_stream_is_cut(lines, ending, final, mark, cuts):
    data = (b"\xef\xbb\xbf" if mark else b"x\n") + ending.join(lines) + (ending if final else b"")
    found = list(iter_lines(split(data, *cuts)))
    assert found == list(iter_lines([data]))
    numbered = enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1)
    expected = [(n, raw.removesuffix(b"\r")) for n, raw in numbered if raw.strip()]
    assert [(line.number, line.raw) for line in found] == expected
    assert all(data[line.start : line.stop] == line.raw for line in found)


@pytest.mark.parametrize("cuts", [(), (3,), (1, 2, 3, 4, 5, 6, 7, 8, 9), (12, 13)])
def test_a_line_over_the_limit_is_a_bad_row_and_the_next_is_read(cuts):
    data = b"12345\n123456789\nabc\n1234567"
    assert list(iter_lines(split(data, *cuts), max_bytes=5)) == [
        Line(1, 0, 5, b"12345"),
        BadRow(2, "longer than 5 bytes"),
        Line(3, 16, 19, b"abc"),
        BadRow(4, "longer than 5 bytes"),
    ]


def test_an_endless_line_is_not_held_in_memory():
    tracemalloc.start()
    try:
        rows = list(read_jsonl((b"x" * 65_536 for _ in range(2_000)), max_bytes=1_000_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == [BadRow(1, "longer than 1,000,000 bytes")]
    assert peak < 4_000_000


def test_jsonl_rows_are_objects_and_every_other_line_is_reported():
    data = b'{"a": 1}\n\n[1]\n{"a": \n"text"\n{"a": "\xff"}\n{"a": NaN}\n{"b": null}'
    rows = list(read_jsonl([data]))
    assert [row for row in rows if isinstance(row, Row)] == [Row(1, {"a": 1}), Row(8, {"b": None})]
    bad = {row.number: row.message for row in rows if isinstance(row, BadRow)}
    assert list(bad) == [3, 4, 5, 6, 7]
    assert bad[3] == bad[5] == "a row must be a JSON object"
    assert "UTF-8" in bad[6]


@given(st.lists(st.dictionaries(TEXT, VALUES, max_size=3)), st.lists(st.integers(0, 300)))
def test_jsonl_reads_back_what_was_written(items, cuts):
    data = b"".join(write_jsonl(items))
    assert [row.value for row in read_jsonl(split(data, *cuts))] == items


def test_jsonl_is_written_in_pieces():
    pieces = list(write_jsonl({"text": "x" * 1_000} for _ in range(1_000)))
    assert len(pieces) > 10
    assert max(map(len, pieces)) < 70_000


def test_csv_cells_are_text_under_the_header():
    data = b'\xef\xbb\xbfid,"the ""text""",n\r\n1,"a, b\r\nc",\r\n\r\n2,\xc3\xa4, 3\n'
    assert list(read_csv([data])) == [
        Row(2, {"id": "1", 'the "text"': "a, b\r\nc", "n": ""}),
        Row(5, {"id": "2", 'the "text"': "ä", "n": " 3"}),
    ]


@pytest.mark.parametrize("cuts", [(), range(60)])
def test_a_csv_record_that_does_not_fit_is_reported_by_its_line(cuts):
    data = b'a,b\n1\n1,2,3\n"x\ny",z\n"x"y,z\n\xff,1\nn\0,1\n3,4\n"open,1\n5,6\n'
    rows = list(read_csv(split(data, *cuts)))
    assert [row.number for row in rows] == [2, 3, 4, 6, 7, 8, 9, 10]
    assert [row for row in rows if isinstance(row, Row)] == [
        Row(4, {"a": "x\ny", "b": "z"}),
        Row(9, {"a": "3", "b": "4"}),
    ]
    assert rows[0] == BadRow(2, "1 cells under a header of 2")
    assert rows[4] == BadRow(7, "not valid UTF-8 at byte 1 of line 7")
    assert rows[5] == BadRow(8, "a NUL character in line 8")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the header row is missing"),
        (b"\n\n", "the header row is missing"),
        (b"a,,c\n1,2,3\n", "the header's cell 2 is empty"),
        (b"a,b,a\n1,2,3\n", "the header names 'a' twice"),
        (b"\xff\n1\n", "not valid UTF-8 at byte 1 of line 1"),
        (b'"open\n1\n', "unexpected end of data"),
        (b"a,b\r1,2\r", "a carriage return outside quotes that does not end the line"),
    ],
)
def test_a_bad_header_is_one_bad_row_and_the_end(data, message):
    assert list(read_csv([data])) == [BadRow(1, message)]


def test_a_quote_that_is_never_closed_does_not_fill_the_memory():
    def stream() -> Iterator[bytes]:
        yield b'a\n"open\n'
        for _ in range(1_000):
            yield b"x" * 63 + b"\n"

    first = next(read_csv(stream(), max_bytes=10_000))
    assert first == BadRow(2, "longer than 10,000 bytes")


def test_a_cell_may_be_as_long_as_a_record():
    cell = "x" * 1_000_000
    assert list(read_csv([b"a\n", cell.encode()])) == [Row(2, {"a": cell})]


NAMES = st.lists(TEXT.filter(bool), min_size=1, max_size=4, unique=True).filter(
    lambda names: not names[0].startswith("\ufeff")
)


@given(st.data(), NAMES, st.lists(st.integers(0, 200), max_size=5))
def test_csv_reads_back_the_text_that_was_written(data, names, cuts):
    items = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, TEXT)), max_size=5))
    written = b"".join(write_csv(items, names))
    assert [row.value for row in read_csv(split(written, *cuts))] == items


def test_csv_cells_hold_json_for_what_is_not_text():
    item = {"t": "x", "n": 1.5, "b": False, "none": None, "list": [1, "ä"], "big": 2**70}
    written = b"".join(write_csv([item], [*item, "absent"])).decode()
    assert written == f't,n,b,none,list,big,absent\r\nx,1.5,false,,"[1,""ä""]",{2**70},\r\n'


def test_formulas_are_guarded_only_when_asked():
    items = [{"=a": "=1+1", "b": "-2", "c": -2, "d": "x=1"}]
    fields = list(items[0])
    assert b"".join(write_csv(items, fields)) == b"=a,b,c,d\r\n=1+1,-2,-2,x=1\r\n"
    guarded = b"".join(write_csv(items, fields, guard_formulas=True))
    assert guarded == b"'=a,b,c,d\r\n'=1+1,'-2,-2,x=1\r\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "read", "header"),
    [
        (b'{"question": "What is 7 times 6?", "answer": "42", "n": 1}\n', read_jsonl, b""),
        (b"What is 7 times 6?,42,1\n", read_csv, b"question,answer,n\n"),
    ],
)
def test_rows_pass_in_flat_memory_and_in_proportion_to_their_number(line, read, header):
    def stream() -> Iterator[bytes]:
        yield header
        for _ in range(1_000):
            yield line * 1_000

    tracemalloc.start()
    try:
        count = sum(1 for row in read(split_off(stream(), 50)) if isinstance(row, Row))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 50_000
    assert peak < 2_000_000
    few, many = (seconds_for(read, stream(), rows) for rows in (25, 100))
    # Four times the rows take four times as long; were it with the square, sixteen times.
    assert many < 10 * few


def seconds_for(read: Callable[..., Any], stream: Iterator[bytes], chunks: int) -> float:
    """The processor time that so many chunks take, at the best of three times."""
    pieces = list(split_off(stream, chunks))
    took = []
    for _ in range(3):
        began = time.process_time()
        assert sum(1 for row in read(iter(pieces)) if isinstance(row, Row)) == chunks * 1_000
        took.append(time.process_time() - began)
    return min(took)


def split_off(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """The header's chunk and `count` more: tracing takes long."""
    for chunk, _ in zip(chunks, range(count + 1), strict=False):
        yield chunk
