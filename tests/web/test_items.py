"""A result is shown as texts, from rows and answers of any shape."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from apps.evaluations.models import Result
from apps.evaluations.reports import Item
from evalplatform.web import items

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=8,
)
MESSAGE = st.fixed_dictionaries({}, optional={"role": JSON, "content": JSON, "tool_calls": JSON})
SAMPLE = st.fixed_dictionaries(
    {},
    optional={
        "output_text": JSON,
        "output_tools": JSON,
        "choices": JSON | st.lists(st.fixed_dictionaries({"message": MESSAGE}), max_size=2),
    },
)
OBJECT = st.dictionaries(st.text(), JSON, max_size=4)


def item_of(
    item: dict[str, Any],
    sample: dict[str, Any] | None = None,
    exchange: dict[str, Any] | None = None,
) -> Item:
    return Item(Result(), item, sample, exchange or {}, [])


def test_the_question_is_the_last_thing_a_model_was_told() -> None:
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "reply"},
        {"role": "user", "content": [{"type": "text", "text": "last"}]},
    ]
    item = item_of({"a": "x"}, exchange={"input": messages})
    assert items.line_of(item, []).question == "last"


def test_without_a_model_the_question_is_what_no_criterion_reads() -> None:
    item = item_of({"question": "2 + 2?", "answer": "4", "level": 3})
    criteria = [{"input": "{{ sample.output_text }}", "reference": "{{ item.answer }}"}]
    assert items.line_of(item, criteria).question == "2 + 2? · 3"


def test_where_criteria_read_everything_everything_is_shown() -> None:
    criteria = [{"input": "{{ item.a }}", "reference": "{{ item.b }}"}]
    assert items.line_of(item_of({"a": "x", "b": "y"}), criteria).question == "x · y"


def test_without_a_sample_the_answer_is_what_the_first_criterion_takes_for_one() -> None:
    criteria = [{"operation": "eq"}, {"input": "<{{ item.given }}>", "reference": "{{ item.no }}"}]
    line = items.line_of(item_of({"given": "x"}), criteria)
    assert (line.answer, line.expected) == ("<x>", "")


def test_a_raw_completion_has_an_answer_too() -> None:
    sample = {"choices": [{"message": {"role": "assistant", "content": "Paris"}}]}
    assert items.line_of(item_of({}, sample), []).answer == "Paris"
    assert [part.text for part in items.answer_parts(item_of({}, sample))] == ["Paris"]


def test_an_answer_of_tools_alone_is_their_calls() -> None:
    sample = {"choices": [{"message": {"content": None, "tool_calls": [{"id": "call_1"}]}}]}
    assert "call_1" in items.line_of(item_of({}, sample), []).answer


def test_a_line_holds_no_more_than_an_excerpt() -> None:
    line = items.line_of(item_of({"a": "x" * 10_000}), [])
    assert len(line.question) == items.EXCERPT_LENGTH


@given(OBJECT, st.none() | SAMPLE, OBJECT, st.lists(OBJECT, max_size=2))
def test_no_row_answer_or_setting_breaks_a_page(
    item: dict[str, Any],
    sample: dict[str, Any] | None,
    exchange: dict[str, Any],
    criteria: list[dict[str, Any]],
) -> None:
    one = item_of(item, sample, exchange)
    items.line_of(one, criteria)
    items.answer_parts(one)
    items.fields_of(item)
    for settings in criteria:
        items.settings_of(settings, one)


@given(JSON | st.lists(MESSAGE, max_size=3))
def test_nothing_that_was_asked_breaks_a_page(asked: Any) -> None:
    items.messages_of(asked)
    items.line_of(item_of({}, None, {"input": asked}), [])
