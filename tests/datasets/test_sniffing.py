"""What a file is, found out from its content: shape, encoding, delimiter, packing, bounds."""

import datetime
import gzip
import io
import json
import random
import zipfile
from typing import Any

import openpyxl
import pytest

from apps.datasets import unpacking, workbook_rows
from apps.datasets.row_readers import ReadingOptions, open_rows
from apps.datasets.sniffing import describe_content
from apps.datasets.tabular import BadRow
from apps.datasets.unpacking import BadFile

ROWS = [{"question": "Où?", "answer": "là"}, {"question": "Quand?", "answer": "été"}]
SMALL = [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def read(content: bytes, name: str = "", **options: str) -> tuple[list[Any], str]:
    with open_rows(io.BytesIO(content), name, ReadingOptions(**options)) as reading:
        return [row if isinstance(row, BadRow) else row.value for row in reading], reading.told


def table(delimiter: str, rows: list[dict[str, str]] = ROWS) -> str:
    lines = [delimiter.join(rows[0]), *(delimiter.join(row.values()) for row in rows)]
    return "\n".join(lines) + "\n"


def parquet(columns: dict[str, list[Any]]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    parquet_module = pytest.importorskip("pyarrow.parquet")
    out = io.BytesIO()
    parquet_module.write_table(pyarrow.table(columns), out)
    return out.getvalue()


def workbook(*rows: list[Any], sheet: str = "Tickets") -> bytes:
    book = openpyxl.Workbook()
    book.active.title = sheet
    for row in rows:
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (table(","), "CSV with commas, 2 columns"),
        (table(";"), "CSV with semicolons, 2 columns"),
        (table("\t"), "CSV with tabs, 2 columns"),
        (table("|"), "CSV with bars, 2 columns"),
        ("".join(json.dumps(row) + "\n" for row in ROWS), "JSONL"),
        (json.dumps(ROWS), "a JSON array"),
        (json.dumps(ROWS, indent=1), "a JSON array"),
        (json.dumps({"data": ROWS}), "a JSON object whose 'data' is the list of rows"),
        (json.dumps({"rows": ROWS}) + "\n\n", "a JSON object whose 'rows' is the list of rows"),
        (
            json.dumps({"version": "1.1", "n": [1], "data": ROWS, "more": {}}),
            "a JSON object whose 'data' is the list of rows",
        ),
        (
            json.dumps({"by": {"x": 1}, "tickets": ROWS}, indent=2),
            "a JSON object whose 'tickets' is the list of rows",
        ),
        ("".join(json.dumps(row, indent=2) + "\n" for row in ROWS), "JSON objects"),
    ],
)
@pytest.mark.parametrize("name", ["", "a.csv", "a.json", "a.jsonl", "a.txt", "a.csv.gz"])
def test_the_content_tells_the_shape_whatever_the_name_says(text: str, shape: str, name: str):
    content = text.encode()
    if name.endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    rows, told = read(content, name)
    packed = ", unpacked from gzip" if name.endswith(".gz") else ""
    assert (rows, told) == (ROWS, f"{shape}, in UTF-8{packed}")


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8-sig", "UTF-8"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("latin-1", "Windows-1252 (Latin-1), guessed from 'Où'"),
        ("cp1252", "Windows-1252 (Latin-1), guessed from 'Où'"),
    ],
)
@pytest.mark.parametrize("shape", ["csv", "jsonl", "array"])
def test_the_encoding_is_found_out_and_said(encoding: str, told: str, shape: str):
    text = {
        "csv": table(";"),
        "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS),
        "array": json.dumps(ROWS, ensure_ascii=False),
    }[shape]
    rows, said = read(text.encode(encoding))
    assert rows == ROWS
    assert f", in {told}" in said


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "вопрос;ответ\nСтолица России?;Москва\nСколько будет два плюс два?;четыре\n"),
        ("cp1250", "pytanie;odpowiedź\nGdzie mieszka żubr?;w Białowieży\nŻółta łódź;tak\n"),
        ("shift_jis", "質問;答え\n日本の首都はどこですか;東京\n一番高い山は何ですか;富士山\n"),
        ("gb18030", "问题;答案\n中国的首都是哪里;北京\n最高的山是哪座;珠穆朗玛峰\n"),
    ],
)
def test_other_encodings_are_guessed_or_named(encoding: str, text: str):
    header, *lines = (line.split(";") for line in text.splitlines())
    expected = [dict(zip(header, line, strict=True)) for line in lines]
    assert read(text.encode(encoding))[0] == expected
    rows, told = read(text.encode(encoding), encoding=encoding)
    assert rows == expected
    assert "guessed" not in told


def test_a_few_broken_letters_leave_utf8_what_it_is():
    lines = [f'{{"a": "né {number}"}}'.encode() for number in range(20)]
    lines[7] = b'{"a": "n\xe9"}'
    rows, told = read(b"\n".join(lines))
    assert told == "JSONL, in UTF-8"
    assert [row for row in rows if isinstance(row, BadRow)] == [
        BadRow(8, "not valid UTF-8 at byte 9")
    ]


def test_a_letter_late_in_a_file_counts_too():
    text = "a;b\n" + "x;y\n" * 100_000 + "é;z\n"
    rows, told = read(text.encode("latin-1"))
    assert rows[-1] == {"a": "é", "b": "z"}
    assert "Latin-1" in told


@pytest.mark.parametrize(
    ("content", "options", "asks", "words"),
    [
        (b"a;b,c\n1;2,3\n", {}, "delimiter", "parted by commas or by semicolons"),
        (b"a|b\tc\n1|2\t3\n4|5\t6\n", {}, "delimiter", "parted by tabs or by bars"),
        (b"a,b\n1,2\n", {"encoding": "klingon"}, "encoding", "no encoding 'klingon'"),
        (b"a,b\n1,2\n", {"encoding": "base64"}, "encoding", "no encoding 'base64'"),
        ("a,b\nü,2\n".encode("latin-1"), {"encoding": "ascii"}, "encoding", "not valid ascii"),
        (b"\x89PNG\0\0\0\1", {}, "", "no text"),
        (b"PK\x03\x04 no workbook", {}, "", "not readable as a workbook"),
        (b"PAR1 no table", {}, "", "not readable as Parquet"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], {}, "", "gzip"),
        (b"\x1f\x8b no gzip", {}, "", "not all of it is gzip"),
    ],
)
def test_what_cannot_be_told_is_asked_for(content: bytes, options: Any, asks: str, words: str):
    with pytest.raises(BadFile) as refused:
        read(content, **options)
    assert words in str(refused.value)
    assert refused.value.asks == asks


def test_what_the_user_says_wins():
    assert read(b"a;b,c\n1;2,3\n", delimiter=";")[0] == [{"a": "1", "b,c": "2,3"}]
    assert read(b"a;b,c\n1;2,3\n", delimiter=",")[0] == [{"a;b": "1;2", "c": "3"}]
    assert read(b"a\xd3b\n\xd3\n", encoding="cp437")[0] == [{"a╙b": "╙"}]
    assert read(b'{"data": [{"a": 1}]}\n', format="jsonl")[0] == [{"data": [{"a": 1}]}]
    assert read(b"a:b\n1:2\n", delimiter=":")[0] == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("text", "rows", "words"),
    [
        (",a,b\n0,1,2\n1,3,4\n", SMALL, "its first column, an index of rows, left out"),
        (",a,b\n5,1,2\n17,3,4\n", SMALL, "left out"),
        ("Unnamed: 0,a,b\n0,1,2\n1,3,4\n", SMALL, "left out"),
        (";a;b\n0;1;2\n1;3;4\n", SMALL, "left out"),
        (
            ",a,b\nx,1,2\ny,3,4\n",
            [{"index": "x", **SMALL[0]}, {"index": "y", **SMALL[1]}],
            "which has no name, called 'index'",
        ),
        ("Unnamed: 0,a\nx,1\n", [{"Unnamed: 0": "x", "a": "1"}], "2 columns"),
        ("id,a,b\n0,1,2\n1,3,4\n", [{"id": "0", **SMALL[0]}, {"id": "1", **SMALL[1]}], "3 col"),
    ],
)
def test_an_index_column_is_left_out(text: str, rows: Any, words: str):
    found, told = read(text.encode())
    assert found == rows
    assert words in told


def test_a_mark_that_stands_in_a_name_alone_parts_nothing():
    text = "question; be brief\nWhat is 7 times 6?\nWhy, then?\n"
    rows, told = read(text.encode())
    assert rows == [{"question; be brief": one} for one in text.splitlines()[1:2]] + [
        BadRow(3, "2 cells under a header of 1")
    ]
    assert told == "CSV, 1 column, in UTF-8"
    assert read(b"a;b\n")[1] == "CSV with semicolons, 2 columns, in UTF-8"


def test_a_row_of_jsonl_that_holds_a_list_stays_a_row():
    for row in ({"item": {"x": [{"a": 1}]}}, {"q": "?", "messages": [{"a": 1}]}, {"data": "x"}):
        assert read(json.dumps(row).encode())[0] == [row]
    rows = [{"data": [{"a": 1}]}, {"data": [{"a": 2}]}]
    assert read("\n".join(map(json.dumps, rows)).encode())[0] == rows


def test_parquet_leaves_an_unnamed_index_out():
    content = parquet({"a": ["1", "3"], "b": ["2", "4"], "__index_level_0__": [0, 1]})
    assert read(content, "a.csv") == (SMALL, "Parquet")
    assert read(gzip.compress(content, mtime=0)) == (SMALL, "Parquet, unpacked from gzip")


def test_a_workbook_is_read_from_its_first_sheet_with_rows():
    when = datetime.datetime(2026, 11, 29, 12, 30)  # noqa: DTZ001  cells have no zone
    content = workbook(
        [], ["", "a", "n", "when"], [0, "x", 1, when], [], [1, None, 2.5, when.date()]
    )
    rows, told = read(content, "a.txt")
    assert rows == [
        {"a": "x", "n": 1, "when": "2026-11-29T12:30:00"},
        {"a": "", "n": 2.5, "when": "2026-11-29"},
    ]
    assert told == "the sheet 'Tickets' of a workbook"
    assert read(gzip.compress(content, mtime=0))[0] == rows
    rows, _ = read(workbook(["a", "b"], ["1", "2", "3"], [True, "=1+1"]))
    assert rows == [BadRow(2, "more cells than the header's 2", "row"), {"a": True, "b": ""}]


def test_a_workbook_may_not_be_blown_up(monkeypatch: pytest.MonkeyPatch):
    book = openpyxl.Workbook()
    book.active["A1"], book.active["XFD1048576"] = "a", "b"
    out = io.BytesIO()
    book.save(out)
    rows, _ = read(out.getvalue())
    assert rows == []  # its last cell stands under no header, and costs nothing
    monkeypatch.setattr(workbook_rows, "UNPACKED_BYTES", 1_000)
    with pytest.raises(BadFile, match="save it as CSV"):
        read(workbook(["a"], ["b"]))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "no workbook")
    with pytest.raises(BadFile, match="not readable as a workbook"):
        read(packed.getvalue())


def test_a_small_gzip_cannot_become_a_large_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpacking, "FREE_BYTES", 100_000)
    bomb = gzip.compress(b"a" * 10_000_000, mtime=0)
    with pytest.raises(BadFile, match="200 times as large: unpack it yourself"):
        read(bomb)
    noise = random.Random(1)
    lines = "".join(f"{noise.random()},{noise.random()}\n" for _ in range(10_000))
    members = (
        gzip.compress(b"a,b\n", mtime=0) + gzip.compress(lines.encode(), mtime=0) + b"\0" * 100
    )
    assert len(read(members)[0]) == 10_000
    monkeypatch.setattr(unpacking, "MOST_BYTES", 200_000)
    with pytest.raises(BadFile, match="larger than 200,000 bytes"):
        read(members)


def test_a_large_array_on_one_line_is_never_in_memory():
    class Array(io.RawIOBase):
        """An array of 200,000 rows, made as it is read."""

        row = b'{"input": "a question of some length", "ideal": "an answer"}'

        def __init__(self) -> None:
            self.at = 0

        def readable(self) -> bool:
            return True

        def seek(self, at: int, whence: int = 0) -> int:
            self.at = at
            return at

        def tell(self) -> int:
            return self.at

        def read(self, size: int = -1) -> bytes:
            if self.at >= 200_000:
                return b""
            start = b"[" if self.at == 0 else b","
            count = min(2_000, 200_000 - self.at)
            self.at += count
            end = b"]" if self.at >= 200_000 else b""
            return start + b",".join([self.row] * count) + end

    file, count, most = Array(), 0, 0
    with open_rows(file) as reading:  # type: ignore[arg-type]  # it is as much as is needed
        for _ in reading:
            count += 1
            most = max(most, file.at - count)
    assert count == 200_000
    assert most < 10_000, "read ahead of the row that is at hand"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"item": {}}\n', ""),
        (b'\n{"item": {}}\n{"item": {}}', ""),
        (b'{"item": {"a": "cut off', ""),
        (b"", ""),
        (b"oops\n", ""),
        (b'[{"item": {}}]', "a JSON array"),
        (b'{"data": [{"item": {}}]}', "one JSON object whose 'data' is a list of rows"),
        (b'{\n"item": {}\n}\n', "JSON objects of several lines each"),
        (b"a;b\n1;2\n", "CSV with semicolons, 2 columns"),
        (b"a,b\n1,2\n", "CSV with commas, 2 columns"),
        (b"PAR1....", "Parquet"),
        (b"PK\x03\x04....", "a workbook"),
        (gzip.compress(b"{}", mtime=0), "gzip"),
        ('{"item": {}}\n'.encode("utf-16"), "UTF-16 text"),
    ],
)
def test_what_should_be_jsonl_is_described_where_it_is_not(content: bytes, words: str):
    found = describe_content(content, is_whole=True)
    assert found.startswith(words) if words else found == ""
