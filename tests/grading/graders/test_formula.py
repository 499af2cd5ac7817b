"""Arithmetic over the scores of several graders."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.grading.graders.formula import BadFormula, parse_formula

NUMBERS = {"a": 2.0, "b": 3.0, "exact": 0.5}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a + b * 2", 8),
        ("(a + b) * 2", 10),
        ("a ^ b ^ a", 512),
        ("-a ^ 2", -4),
        ("2 ^ -1", 0.5),
        ("a - -b", 5),
        ("b / a", 1.5),
        ("0.5 * exact + .25", 0.5),
        ("1e2 + 1", 101),
        ("min(a, b, 1)", 1),
        ("max(a, b)", 3),
        ("abs(a - b)", 1),
        ("floor(2.7) + ceil(2.1)", 5),
        ("sqrt(a * 8)", 4),
        ("log(exp(a))", 2),
    ],
)
def test_a_formula_has_the_value_of_its_arithmetic(text: str, value: float) -> None:
    assert parse_formula(text).value(NUMBERS) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    ["", "a +", "(a", "a)", "a b", "a ** b", "min()", "abs(a, b)", "exec(a)", "a.b", "a; b",
     "__import__('os')", "1,2", "(" * 60 + "a" + ")" * 60, "2" + "^2" * 60, "a" * 5000],
)  # fmt: skip
def test_what_is_no_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(BadFormula):
        parse_formula(text)


@pytest.mark.parametrize("text", ["a / 0", "log(0)", "sqrt(-1)", "10 ^ 10 ^ 10", "exp(1000)"])
def test_a_formula_without_a_finite_value_says_so(text: str) -> None:
    with pytest.raises(BadFormula):
        parse_formula(text).value(NUMBERS)


def test_a_formula_tells_the_names_it_reads() -> None:
    assert parse_formula("min(a, exact) + 1").names == {"a", "exact"}


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8))
def test_a_sum_of_written_numbers_is_their_sum(numbers: list[float]) -> None:
    text = " + ".join(f"({number!r})" for number in numbers)
    assert math.isclose(parse_formula(text).value({}), sum(numbers), abs_tol=1e-9)
