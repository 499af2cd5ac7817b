"""Pacing against simulated servers, over minutes that take no time: what is wasted, and learned."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.inference.models import EndpointPace
from apps.inference.pacing import Ledger, shown_seconds
from tests.inference.rate_limited import EPOCH, Bucket, Callers, FixedWindow, SlidingWindow

KINDS = pytest.mark.parametrize("kind", [FixedWindow, SlidingWindow, Bucket])
LIMITS = pytest.mark.parametrize(
    ("calls", "seconds", "rows"), [(5, 20, 30), (5, 60, 30), (20, 30, 60)]
)
SAYINGS = {
    "its window": lambda seconds: lambda _: float(seconds),
    "what is left": lambda _: lambda wait: wait,
    "nothing": lambda _: lambda _: None,
}
SAYS = pytest.mark.parametrize("says", list(SAYINGS))


@KINDS
@LIMITS
@SAYS
@pytest.mark.parametrize("concurrency", [2, 64])
def test_no_row_is_lost_and_few_calls_are_wasted(kind, calls, seconds, rows, says, concurrency):
    server = kind(calls, seconds)
    course = Callers(server, rows, concurrency, says=SAYINGS[says](seconds)).run()
    assert course.given_up == 0
    if concurrency == 2:
        assert course.calls <= rows * (2.5 if says == "nothing" else 1.5)
    else:
        assert course.refused <= course.first_in_flight + rows / 5
    # Not much longer than the server makes it take, unless it leaves the time to be guessed.
    shortest = (rows / calls - 1) * seconds
    assert course.seconds <= (1.15 if says != "nothing" else 1.8) * shortest + 5


def test_a_limit_that_was_met_at_the_end_of_its_window_is_learned_all_the_same():
    pace = EndpointPace()
    course = Callers(FixedWindow(5, 20, start=-13), 60, 64, pace=pace).run()
    assert course.given_up == 0
    assert course.refused <= 55 + 12
    assert pace.calls / pace.window_seconds == pytest.approx(5 / 20, rel=0.25)


def test_what_was_learned_is_not_learned_again():
    pace, server = EndpointPace(), SlidingWindow(20, 30)
    silent = {"says": SAYINGS["nothing"](30), "pace": pace}
    first = Callers(server, 60, 64, **silent).run()
    second = Callers(server, 60, 64, begin=200.0, **silent).run()
    assert first.refused >= 40
    assert second.refused <= 5


def test_a_server_that_takes_more_than_it_did_gets_more():
    pace = EndpointPace(calls=2, window_seconds=10.0, learned_at=EPOCH)
    course = Callers(SlidingWindow(60, 60), 200, 64, pace=pace).run()
    assert course.refused <= 20
    assert course.seconds < 200 / 2 * 10 / 2


def test_what_was_learned_is_forgotten_after_a_day():
    pace = EndpointPace(calls=2, window_seconds=10.0, learned_at=EPOCH)
    course = Callers(SlidingWindow(60, 60), 50, 64, pace=pace, begin=86_401.0).run()
    assert course.seconds < 5


def test_a_limit_set_by_hand_is_never_passed():
    course = Callers(SlidingWindow(60, 60), 200, 64, requests_per_minute=60).run()
    assert course.refused == 0
    assert course.seconds < 190


def test_who_waits_for_a_server_that_takes_nothing_is_told_in_the_end():
    course = Callers(FixedWindow(0, 20), 30, 64, patience=600).run()
    assert course.given_up == 30
    assert 600 <= course.seconds <= 603
    assert course.calls <= 30 + 30


def test_slow_answers_do_not_keep_the_rest_waiting_for_the_first():
    course = Callers(SlidingWindow(60, 60), 120, 64, answer_seconds=20).run()
    assert course.given_up == 0
    assert course.seconds < 160


@given(
    st.lists(st.tuples(st.floats(0.01, 30), st.integers(1, 5)), min_size=1, max_size=40),
    st.integers(1, 20),
)
def test_a_ledger_counts_no_call_too_few_and_says_how_long_to_wait(story, limit):
    now, made, text = 1000.0, [], "[]"
    for pause, calls in story:
        now += pause
        ledger = Ledger(text, now, 60, 60)
        ledger.add(calls, 0)
        made += [now] * calls
        text = ledger.dump()
    exact = sum(at > now - 60 for at in made)
    late = sum(at > now - 60 - 2 * 60 / 50 for at in made)
    assert exact <= ledger.calls(60) <= late
    wait = ledger.wait(60, limit, 1)
    assert (wait == 0) == (ledger.calls(60) < limit)
    # Times are kept to the millisecond.
    assert Ledger(text, now + wait + 0.002, 60, 60).calls(60) < limit


def test_durations_read_as_people_say_them():
    assert [shown_seconds(x) for x in (0.5, 20, 119, 600)] == [
        "0.5 seconds",
        "20 seconds",
        "119 seconds",
        "10 minutes",
    ]
