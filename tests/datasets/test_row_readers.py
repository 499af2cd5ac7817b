"""Rows out of files of every format."""

import builtins
import io
import json
from datetime import date
from decimal import Decimal

import pytest

from apps.datasets import json_rows, parquet_rows, unpacking
from apps.datasets.json_rows import read_json
from apps.datasets.row_readers import ReadingOptions, RowFile, format_of
from apps.datasets.unpacking import BadFile


def file_of(content: bytes | str, format_name: str) -> RowFile:
    data = content.encode() if isinstance(content, str) else content
    return RowFile("the file", lambda: io.BytesIO(data), ReadingOptions(format_name))


def rows_of(content: bytes | str, format_name: str) -> list[dict]:
    return list(file_of(content, format_name).rows())


def parquet(rows, schema=None) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    parquet_module = pytest.importorskip("pyarrow.parquet")
    out = io.BytesIO()
    parquet_module.write_table(pyarrow.Table.from_pylist(rows, schema=schema), out)
    return out.getvalue()


def test_jsonl_skips_blank_lines_and_a_byte_order_mark():
    assert rows_of('\ufeff{"a":1}\n\n  \n{"a":"é"}', "jsonl") == [{"a": 1}, {"a": "é"}]


def test_cells_of_csv_are_text_as_written():
    assert rows_of('\ufeffinput,ideal\r\n05,1.50\r\n"a ""b"", c\nd",\r\ntrue,null\r\n', "csv") == [
        {"input": "05", "ideal": "1.50"},
        {"input": 'a "b", c\nd', "ideal": ""},
        {"input": "true", "ideal": "null"},
    ]
    assert rows_of("input,ideal\n", "csv") == []


def test_a_json_array_is_read_element_by_element(monkeypatch):
    assert rows_of('\ufeff [ {"a": 1}, {"b": [2, "]"]} ]\n ', "json") == [
        {"a": 1},
        {"b": [2, "]"]},
    ]
    assert rows_of(" [ ] ", "json") == []
    rows = [{"text": f'é "{number}" 😀\\', "n": [number, {"x": None}]} for number in range(40)]
    document = json.dumps(rows, ensure_ascii=False, indent=1)
    for size in (1, 2, 7, 100):
        monkeypatch.setattr(unpacking, "READ_BYTES", size)
        assert rows_of(document, "json") == rows


def test_an_element_of_an_array_is_bounded(monkeypatch):
    monkeypatch.setattr(json_rows, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(unpacking, "READ_BYTES", 10)
    monkeypatch.setattr(json_rows, "HEAD_BYTES", 10)
    document = '[{"a": "' + "x" * 1_000_000
    file = io.BytesIO(document.encode())
    with pytest.raises(BadFile, match="row 1: Unterminated"):
        list(RowFile("the file", lambda: file, ReadingOptions("json")).rows())


def test_parquet_gives_texts_and_native_lists():
    messages = [{"role": "user", "content": "hi", "name": None}]
    rows = [
        {"input": messages, "ideal": "x", "n": 1, "when": date(2024, 1, 2), "d": Decimal("1.50")},
        {"input": None, "ideal": None, "n": None, "when": None, "d": None},
    ]
    assert rows_of(parquet(rows), "parquet") == [
        {
            "input": [{"role": "user", "content": "hi"}],
            "ideal": "x",
            "n": 1,
            "when": "2024-01-02",
            "d": "1.50",
        },
        {"input": None, "ideal": None, "n": None, "when": None, "d": None},
    ]


def test_parquet_goes_by_in_pieces(monkeypatch):
    monkeypatch.setattr(parquet_rows, "PARQUET_ROWS", 2)
    rows = [{"a": float(number)} for number in range(5)]
    assert rows_of(parquet(rows), "parquet") == rows
    assert rows_of(parquet([{"a": float("nan")}, {"a": float("inf")}]), "parquet") == [
        {"a": None},
        {"a": None},
    ]


@pytest.mark.parametrize(
    ("content", "format_name", "reason"),
    [
        ('{"a":1}\n{broken\n', "jsonl", "the file: line 2:"),
        ('{"a":1}\n[1]\n', "jsonl", "line 2: a row must be a JSON object"),
        ('{"a":NaN}\n', "jsonl", "line 1:"),
        ('{"a":"é"}\n{"a":"è"}\n'.encode() + b'{"a":"\xff"}', "jsonl", "not valid UTF-8"),
        ("a,b\n1,2\n3\n", "csv", "line 3: 1 cells under a header of 2"),
        ("", "csv", "the header row is missing"),
        ("a,a\n1,2\n", "csv", "twice"),
        ('a\n"x', "csv", "line 2:"),
        ('{"a":1}\n[2]', "json", "line 2: a row must be a JSON object"),
        ("7", "json", "line 1: a row must be a JSON object"),
        ('[{"a":1}, 2]', "json", "row 2: a row must be a JSON object"),
        ('[{"a":1},', "json", "row 2: Expecting value"),
        ('[{"a":1},]', "json", "row 2: Expecting value"),
        ('[{"a":1}', "json", "after row 1 comes neither a comma nor the array's end"),
        ('[{"a":1} {"a":2}]', "json", "after row 1 comes neither"),
        ('[{"a":1}] x', "json", "something comes after the array's end"),
        ('[{"a":NaN}]', "json", "row 1: "),
        ('[{"a":"\\ud800"}]', "json", "row 1: "),
        ('[{"a":' + "[" * 100_000, "json", "row 1: nested too deep"),
        ('[{"a":' + "[" * 200 + "]" * 200 + "}]", "json", "row 1: nested deeper than 100"),
        ('[{"a":"é"},\n'.encode() + b'{"a":"\xff"}]', "json", "not valid UTF-8"),
        ('[{"a":"é"},\n'.encode() + b'{"a":"\xc3', "json", "not valid UTF-8"),
        ("no parquet at all", "parquet", "not readable as Parquet"),
    ],
)
def test_a_broken_file_is_refused_by_name_and_place(content, format_name, reason):
    with pytest.raises(BadFile) as refused:
        rows_of(content, format_name)
    assert reason in str(refused.value)


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(BadFile, match="row 2: "):
        rows_of(parquet([{"a": b"text"}, {"a": b"\xff"}]), "parquet")


def test_a_nul_character_in_parquet_is_refused():
    with pytest.raises(BadFile, match="row 1: a NUL character"):
        rows_of(parquet([{"a": "x\0y"}]), "parquet")


def test_without_pyarrow_parquet_is_refused_with_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadFile, match=r"pip install 'evalplatform\[parquet\]'"):
        rows_of(b"", "parquet")


def test_what_the_system_refuses_is_a_bad_file(tmp_path):
    with pytest.raises(BadFile, match="the file: No such file"):
        list(RowFile("the file", lambda: (tmp_path / "none").open("rb")).rows())


def test_a_file_is_read_from_its_beginning_each_time():
    file = file_of(json.dumps([{"a": 1}]), "json")
    assert list(file.rows()) == list(file.rows()) == [{"a": 1}]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.JSONL", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("x/a.json", "json"),
        ("a.csv", "csv"),
        ("a.tsv.gz", "csv"),
        ("a.JSONL.GZ", "jsonl"),
        ("a.parquet", "parquet"),
        ("a.xlsx", "xlsx"),
        ("a.gz", None),
        ("a.txt", None),
        ("jsonl", None),
    ],
)
def test_the_ending_tells_the_format(name, expected):
    assert format_of(name) == expected


@pytest.mark.parametrize(
    "text", ['{"a":1}\n{"a":2}\n', '[{"a":1},{"a":2}]', '[\n{"a":1},\n{"a":2}\n]']
)
@pytest.mark.parametrize("start", ["", "\ufeff", "\n \t\r\n", "\ufeff\n\n"])
def test_a_json_file_is_an_array_or_lines(start, text):
    data = (start + text).encode()
    for size in range(1, len(data) + 1):
        chunks = [data[at : at + size] for at in range(0, len(data), size)]
        assert [row.value for row in read_json(chunks)] == [{"a": 1}, {"a": 2}]
    assert rows_of(start, "json") == []


def test_lines_in_a_json_file_keep_their_numbers():
    (row,) = read_json([b"\n", b"\n{"])
    assert row.place == "line 3"
