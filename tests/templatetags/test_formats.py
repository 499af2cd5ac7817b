"""Numbers, times and ids as pages show them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalplatform.templatetags import formats


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0%"),
        (0.0, "0%"),
        (1.0, "100%"),
        (0.8734, "87.3%"),
        (0.0001, "<0.1%"),
        (0.9996, ">99.9%"),
        (0.9994, "99.9%"),
        (1.25, "125.0%"),
        (-0.031, "-3.1%"),
    ],
)
def test_a_percentage_has_one_decimal(value: float | None, shown: str) -> None:
    assert formats.percent(value) == shown


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_what_is_not_all_or_nothing_is_not_shown_as_such(value: float) -> None:
    assert formats.percent(value) not in {"0%", "0.0%", "100%", "100.0%"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (0.5, "0.5"),
        (0.123456, "0.123"),
        (0.00456789, "0.00457"),
        (12.345, "12.3"),
        (1234.5, "1,230"),
        (-0.25, "-0.25"),
        (1.5e-7, "1.50e-07"),
        (2.5e9, "2.50e+09"),
    ],
)
def test_a_score_has_three_digits_that_count(value: float | None, shown: str) -> None:
    assert formats.score(value) == shown


@given(st.floats(1e-4, 1e5))
def test_a_shown_score_is_within_half_a_digit_of_the_score(value: float) -> None:
    assert float(formats.score(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"),
        (-3, "0 ms"),
        (0.0421, "42 ms"),
        (0.9999, "1.0 s"),
        (4.24, "4.2 s"),
        (9.96, "10 s"),
        (59.7, "1 min"),
        (65, "1 min 5 s"),
        (3600, "1 h"),
        (7799, "2 h 9 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_duration_has_the_units_that_matter(seconds: float | None, shown: str) -> None:
    assert formats.duration(seconds).replace(formats.NO_BREAK, " ") == shown


def test_a_time_is_shown_in_utc_and_machines_can_read_it() -> None:
    there = datetime(2026, 3, 1, 1, 30, 5, tzinfo=timezone(timedelta(hours=2)))
    shown = formats.moment(there)
    assert ">2026-02-28 23:30<" in shown
    assert 'datetime="2026-02-28T23:30:05.000+00:00"' in shown
    assert "23:30:05 UTC" in shown
    assert formats.moment(None) == "–"
    assert formats.moment(datetime(2026, 1, 1, tzinfo=UTC)).startswith("<time")


def test_whole_numbers_are_grouped() -> None:
    assert formats.integer(1_234_567) == "1,234,567"
    assert formats.integer(None) == "–"


def test_a_word_goes_with_its_count() -> None:
    assert [formats.plural(n, "row,rows") for n in (0, 1, 2)] == ["rows", "row", "rows"]


def test_a_first_line_keeps_a_table_in_shape() -> None:
    assert formats.first_line("one\n  two") == "one two"
    assert formats.first_line("x" * 200, 10) == "x" * 9 + "…"
