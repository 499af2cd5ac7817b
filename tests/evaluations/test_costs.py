"""Calls cost what their prices say, exactly."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.evaluations.costs import Prices, money_of, picos_of, shown_money
from apps.evaluations.tally import Tally

pytestmark = pytest.mark.django_db


@given(
    st.decimals(0, 999_999, places=6),
    st.decimals(0, 999_999, places=6),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
)
def test_a_cost_is_exact(prompt, completion, asked, said) -> None:
    prices = Prices.of({"prices": {"prompt": f"{prompt:f}", "completion": f"{completion:f}"}})
    cost = prices.cost([1, asked, said])
    assert cost is not None
    # Exact in integers: what a decimal of 28 digits would round.
    assert cost == int(prompt * 10**6) * asked + int(completion * 10**6) * said


def test_a_price_that_is_missing_is_missed_only_where_it_is_taken() -> None:
    embedder = Prices.of({"prices": {"prompt": "1.000000", "completion": None}})
    assert embedder.cost([1, 5, 0]) == 5 * 10**6
    assert embedder.cost([1, 5, 1]) is None
    assert Prices.of({}).cost([1, 0, 0]) is None
    assert Prices.of({"builtin": "echo"}).cost([1, 5, 5]) == 0


def test_old_tallies_without_judges_are_answers() -> None:
    tally = Tally.load('{"criteria":{},"models":{"m":[1,2,3,5,0]}}')
    assert (tally.answering(), tally.judging) == ({"m": [1, 2, 3, 5, 0]}, {})


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("0", "0.00"), ("1.5", "1.50"), ("0.000012", "0.000012"), ("1234", "1,234.00")],
)
def test_money_is_shown_with_the_digits_that_say_something(amount, shown) -> None:
    assert shown_money(Decimal(amount)) == shown
    assert money_of(picos_of(Decimal(amount))) == Decimal(amount)
