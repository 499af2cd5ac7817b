"""When a try is repeated, and when no more: the promise's bounds, without waiting for them."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.clients.retries import Kind, RetryableError, RetryPolicy, RetryState, asked_pause

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def failure(kind, asked_seconds=None):
    return RetryableError(kind, "code", "message", asked_seconds=asked_seconds)


def pauses_of(kind, asked_seconds=None, call_seconds=0.0):
    """All pauses of an item whose every try comes to `kind`, and when it was given up."""
    state, now, pauses = RetryState(RetryPolicy(), 0.0), call_seconds, []
    while (pause := state.pause(failure(kind, asked_seconds), now)) is not None:
        pauses.append(pause)
        now += pause + call_seconds
    return pauses, now


def test_a_lost_connection_is_retried_for_a_minute_and_no_longer():
    pauses, given_up = pauses_of(Kind.LOST)

    assert 56 < given_up <= 60
    assert max(pauses) <= 3
    assert pauses[0] <= 0.2


def test_a_refusal_is_repeated_until_the_fifth():
    pauses, given_up = pauses_of(Kind.REFUSED)

    assert len(pauses) == 4
    assert given_up <= 25


def test_refusals_end_25_seconds_after_the_first():
    pauses, _ = pauses_of(Kind.REFUSED, asked_seconds=10)

    assert len(pauses) == 2


def test_a_server_that_takes_its_time_to_refuse_is_still_tried_again():
    pauses, _ = pauses_of(Kind.REFUSED, call_seconds=30)

    assert len(pauses) == 1


def test_a_server_that_restarts_may_refuse_after_it_was_gone():
    state = RetryState(RetryPolicy(), 0.0)
    assert state.pause(failure(Kind.LOST), 30.0) is not None

    assert state.pause(failure(Kind.REFUSED), 33.0) is not None


def test_an_invalid_answer_is_asked_for_once_more():
    pauses, _ = pauses_of(Kind.INVALID)

    assert len(pauses) == 1


def test_invalid_answers_and_refusals_are_counted_together():
    state = RetryState(RetryPolicy(), 0.0)
    for _ in range(3):
        assert state.pause(failure(Kind.REFUSED), 0.0) is not None
    assert state.pause(failure(Kind.INVALID), 0.0) is not None

    assert state.pause(failure(Kind.REFUSED), 0.0) is None


@given(st.floats(0.001, 25))
def test_what_the_server_asks_is_waited_at_least(asked):
    pause = RetryState(RetryPolicy(), 0.0).pause(failure(Kind.REFUSED, asked), 0.0)

    assert pause is not None
    assert asked <= pause <= min(25, asked * 1.1 + 1e-9)


def test_a_server_that_asks_for_more_than_is_left_is_not_asked_again():
    assert RetryState(RetryPolicy(), 0.0).pause(failure(Kind.REFUSED, 25.1), 0.0) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Kind),
            st.none() | st.floats(0, 100),
            st.floats(0, 120),
        ),
        max_size=60,
    )
)
def test_no_try_begins_later_than_a_minute_after_the_first(story):
    state, start = RetryState(RetryPolicy(), 0.0), 0.0
    for kind, asked, call_seconds in story:
        now = start + call_seconds
        pause = state.pause(failure(kind, asked), now)
        if pause is None:
            break
        start = now + pause
    assert start <= 60


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3),
        ({"Retry-After": " 0.5 "}, 0.5),
        ({"Retry-After": "-3"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After-Ms": "250"}, 0.25),
        ({"Retry-After-Ms": "250", "Retry-After": "3"}, 0.25),
        ({"Retry-After-Ms": "x", "Retry-After": "3"}, 3),
        ({"Retry-After": format_datetime(NOW + timedelta(seconds=7), usegmt=True)}, 7),
        ({"Retry-After": format_datetime(NOW - timedelta(days=7), usegmt=True)}, 0),
        ({"Retry-After": "Sun, 01 Mar 2026 12:00:09 -0000"}, 9),
        ({"Retry-After": "Sun, 99 Mar 2026 12:00:09 GMT"}, None),
    ],
)
def test_every_way_to_ask_for_time_is_understood(headers, seconds):
    assert asked_pause(headers, NOW) == seconds


@given(st.text(max_size=30))
def test_no_header_breaks_the_reading(text):
    seconds = asked_pause({"Retry-After": text, "Retry-After-Ms": text}, NOW)

    assert seconds is None or seconds >= 0
