"""string_check against its definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.errors import dotted
from apps.grading.graders import InvalidSetting, build_grader
from apps.grading.graders.base import Mark
from apps.grading.samples import Sample

TEXTS = st.text(max_size=12)


def check(text, operation, reference):
    settings = {"input": "{{item.x}}", "reference": "{{item.y}}", "operation": operation}
    return build_grader("string_check", settings).grade(Sample({"x": text, "y": reference}, None))


def passes(text, operation, reference):
    mark = check(text, operation, reference)
    assert mark.value == float(mark.passed)
    return mark.passed


@pytest.mark.parametrize(
    ("text", "operation", "reference", "passed"),
    [
        ("Paris", "eq", "Paris", True),
        ("Paris", "eq", "paris", False),
        ("Paris ", "eq", "Paris", False),
        ("caf\u00e9", "eq", "cafe\u0301", False),
        ("", "eq", "", True),
        ("Paris", "ne", "paris", True),
        ("Paris", "ne", "Paris", False),
        ("It is Paris.", "like", "Paris", True),
        ("Paris", "like", "It is Paris.", False),
        ("It is Paris.", "like", "paris", False),
        ("Paris", "like", "P%", False),
        ("Paris", "like", "P.*s", False),
        ("Paris", "like", "P_ris", False),
        ("100%", "like", "0%", True),
        ("Paris", "like", "", True),
        ("It is PARIS.", "ilike", "paris", True),
        ("STRASSE", "ilike", "straße", True),
        ("ΟΔΟΣ", "ilike", "οδος", True),
        ("Paris", "ilike", "p%", False),
        ("", "ilike", "", True),
    ],
)
def test_operations_compare_as_defined(text, operation, reference, passed):
    assert passes(text, operation, reference) is passed


@given(TEXTS, TEXTS)
def test_ne_is_the_opposite_of_eq(text, reference):
    assert passes(text, "ne", reference) is not passes(text, "eq", reference)


@given(TEXTS, TEXTS, TEXTS)
def test_what_is_inside_is_found_whatever_its_case(before, reference, after):
    assert passes(before + reference + after, "like", reference)
    assert passes(before + reference + after, "ilike", reference)


@pytest.mark.parametrize("operation", ["neq", "EQ", "", "contains"])
def test_an_unknown_operation_is_refused(operation):
    with pytest.raises(InvalidSetting) as caught:
        check("a", operation, "a")
    assert (dotted(caught.value.path), caught.value.code) == ("operation", "invalid_value")
    assert caught.value.message == (
        f'operation must be one of eq, ne, like, ilike, not "{operation}".'
    )


def test_the_evidence_shows_both_texts():
    assert check("a'b", "eq", "c") == Mark(0.0, False, "\"a'b\" eq 'c'")


def test_the_evidence_of_long_texts_stays_short():
    assert len(check("x" * 100_000, "ne", "y" * 100_000).evidence) < 500
