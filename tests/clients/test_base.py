"""Usage as upstreams really send it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.clients import Usage

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.sampled_from(["prompt_tokens", "cached_tokens", "x"]), children)
    ),
    max_leaves=10,
)
usages = st.dictionaries(
    st.sampled_from(
        ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"]
    ),
    json_values,
)


def test_usage_is_read_with_its_cached_tokens():
    usage = {
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 8},
    }

    assert Usage.of({"usage": usage}) == Usage(12, 3, 15, 8)


@pytest.mark.parametrize("usage", [None, [], "12", 12, {}])
def test_usage_that_is_missing_counts_nothing(usage):
    assert Usage.of({"usage": usage}) == Usage()
    assert Usage.of({}) == Usage()


@pytest.mark.parametrize("count", [None, -1, True, "7", 1.5, 10**30, float("nan"), [7]])
def test_a_count_that_is_no_count_is_zero(count):
    usage = {"prompt_tokens": count, "completion_tokens": 4}

    assert Usage.of({"usage": usage}) == Usage(0, 4, 4, 0)


def test_a_missing_total_is_the_sum():
    usage = {"prompt_tokens": 2.0, "completion_tokens": 3, "prompt_tokens_details": None}

    assert Usage.of({"usage": usage}) == Usage(2, 3, 5, 0)


@given(usages)
def test_any_usage_gives_counts_that_fit_a_column(usage):
    read = Usage.of({"usage": usage})

    for count in (
        read.prompt_tokens,
        read.completion_tokens,
        read.total_tokens,
        read.cached_tokens,
    ):
        assert type(count) is int
        assert 0 <= count < 2**42
