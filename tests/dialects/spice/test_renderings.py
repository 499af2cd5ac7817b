"""The three renderings of a run, and which of them a request gets. Contract: sections 5 and 6."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalplatform.dialects.spice.renderings import (
    CSV,
    JSON,
    TABLE,
    as_csv,
    as_json,
    as_table,
    negotiate,
)

RECORD = {
    "primary_key": "5b1f0c2e9d3a4c7f8e6d1a2b3c4d5e6f",
    "time_column": "2025-03-04T09:15:42Z",
    "dataset": "trivia",
    "model": "tiny-chat",
    "status": "completed",
    "error_message": None,
    "scorers": ["match", "levenshtein"],
    "metrics": {"match/mean": 0.5, "levenshtein/mean": 0.8125},
}
# The contract's own examples.
CSV_EXAMPLE = (
    "primary_key,time_column,dataset,model,status,error_message,scorers,metrics\n"
    "5b1f0c2e9d3a4c7f8e6d1a2b3c4d5e6f,2025-03-04T09:15:42Z,trivia,tiny-chat,completed,,"
    '"[""match"", ""levenshtein""]","{""match/mean"": 0.5, ""levenshtein/mean"": 0.8125}"\n'
)
TABLE_ROW = (
    "| 5b1f0c2e9d3a4c7f8e6d1a2b3c4d5e6f | 2025-03-04T09:15:42Z | trivia  | tiny-chat | completed "
    '|               | match, levenshtein | {"match/mean": 0.5, "levenshtein/mean": 0.8125} |'
)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/json", JSON),
        ("Application/JSON; charset=utf-8", JSON),
        ("text/csv", CSV),
        ("TEXT/CSV", CSV),
        ("text/plain", TABLE),
        ("text/plain;charset=utf-8", TABLE),
        ("text/csv, application/json", CSV),
        ("application/json, text/csv", JSON),
        ("text/plain, text/csv", TABLE),
        ("text/plain;q=0.5, text/csv;q=0.8", CSV),
        ("text/plain;q=0.5, text/csv", CSV),
        ("text/csv;q=0, */*", JSON),
        ("text/csv;q=0", JSON),
        ("application/json;q=0, text/plain;q=0.1", TABLE),
        ("application/json;q=0, */*;q=0.5", CSV),
        ("text/csv, */*", CSV),
        ("*/*, text/csv", CSV),
        ("text/csv;q=0.5, */*", JSON),
        ("text/html, text/csv;q=0.9, */*;q=0.1", CSV),
        ("application/xml", JSON),
        ("text/html", JSON),
        ("text/csv; q=nonsense", CSV),
        ("text/csv;level=1;q=0.2, text/plain;q=0.3", TABLE),
        (",,;", JSON),
    ],
)
def test_accept_chooses_the_rendering(accept: str | None, chosen: str):
    assert negotiate(accept) == chosen


@given(st.text())
def test_no_accept_header_is_refused(accept: str):
    assert negotiate(accept) in {JSON, CSV, TABLE}


def test_the_csv_is_the_contracts_example():
    assert as_csv(RECORD) == CSV_EXAMPLE


def test_the_table_is_the_contracts_example():
    border, names, _, row, last = as_table(RECORD).splitlines()
    assert row == TABLE_ROW
    assert border == last == "+" + "+".join("-" * len(cell) for cell in row.split("|")[1:-1]) + "+"
    assert [name.strip() for name in names.split("|")[1:-1]] == list(RECORD)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
records = st.fixed_dictionaries(
    {
        "primary_key": texts.filter(bool),
        "dataset": texts,
        "model": texts,
        "error_message": st.none() | texts.filter(bool),
        "scorers": st.lists(texts, max_size=3),
        "metrics": st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False)),
    }
)


@given(records)
def test_the_renderings_carry_equal_values(record: dict[str, Any]):
    names, values = csv.reader(io.StringIO(as_csv(record), newline=""))
    parsed: dict[str, Any] = dict(zip(names, values, strict=True))
    for field in ("scorers", "metrics"):
        parsed[field] = json.loads(parsed[field])
    parsed["error_message"] = parsed["error_message"] or None
    assert parsed == record == json.loads(as_json(record))


@given(records)
def test_a_table_has_five_lines_whatever_is_in_it(record: dict[str, Any]):
    table = as_table(record)
    assert table.endswith("\n")
    assert len(table.splitlines()) == 5


def test_a_field_of_the_csv_is_quoted_where_it_must_be():
    record = {"a": "x,y", "b": 'say "no"', "c": "two\nlines", "d": "a\rb", "e": "🎈"}
    assert as_csv(record) == 'a,b,c,d,e\n"x,y","say ""no""","two\nlines","a\rb",🎈\n'


def test_a_scorer_with_a_quote_is_escaped_twice_in_the_csv():
    assert as_csv({"scorers": ['a"b']}) == 'scorers\n"[""a\\""b""]"\n'


def test_a_wide_character_takes_two_columns_of_the_table():
    _, _, _, row, border = as_table({"name": "한국"}).splitlines()
    assert row == "| 한국 |"
    assert border == "+------+"


def test_a_line_break_or_a_tab_is_one_blank_of_the_table():
    assert "| a b c d |" in as_table({"x": "a\nb\tc\r\nd"})
