"""What all graders share: reading settings, filling templates, remembering."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.errors import dotted
from apps.grading.graders import GRADERS, build_grader
from apps.grading.graders.base import Fault, InvalidSetting, Mark, PlainGrader
from apps.grading.samples import Sample

STRING_CHECK = {"input": "{{sample.output_text}}", "reference": "{{item.a}}", "operation": "eq"}
SIMILARITY = {"input": "{{sample.output_text}}", "reference": "{{item.a}}"}
REQUIRED = {
    "string_check": STRING_CHECK,
    "text_similarity": {**SIMILARITY, "metric": "bleu", "pass_threshold": 0.5},
}
SETTINGS = {
    **REQUIRED,
    "fuzzy_match": SIMILARITY,
    "includes": SIMILARITY,
    "json_match": SIMILARITY,
    "levenshtein": {**SIMILARITY, "pass_threshold": 0.5},
    "match": SIMILARITY,
}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


def refusal(kind, settings):
    with pytest.raises(InvalidSetting) as caught:
        build_grader(kind, settings)
    return caught.value


def test_every_plain_kind_in_the_table_is_tested_here():
    plain = {kind for kind, grader in GRADERS.items() if issubclass(grader, PlainGrader)}
    assert set(SETTINGS) == plain


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_grader_keeps_the_settings_it_was_built_from(kind):
    grader = build_grader(kind, {**SETTINGS[kind], "name": "n", "type": kind})
    assert grader.kind == kind
    assert {name: getattr(grader, name) for name in SETTINGS[kind]} == SETTINGS[kind]
    assert grader.templates() == ("{{sample.output_text}}", "{{item.a}}")
    assert isinstance(grader, PlainGrader)
    assert grader.needs == "grade"


def test_an_unknown_kind_is_refused_by_the_field_type():
    error = refusal("regex", {})
    assert (dotted(error.path), error.code) == ("type", "invalid_value")
    assert error.message == f'type must be one of {", ".join(GRADERS)}, not "regex".'


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in REQUIRED for name in REQUIRED[kind] if name != "pass_threshold"],
)
def test_a_missing_setting_is_named(kind, name):
    error = refusal(kind, {key: SETTINGS[kind][key] for key in SETTINGS[kind] if key != name})
    assert (dotted(error.path), error.code) == (name, "missing_required_parameter")
    assert error.message == f"{name} is required."


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("input", 7, "input must be a string, not 7."),
        ("input", None, "input must be a string, not null."),
        ("reference", ["a"], 'reference must be a string, not ["a"].'),
        ("metric", True, "metric must be a string, not true."),
        ("pass_threshold", "0.5", 'pass_threshold must be a number or null, not "0.5".'),
        ("pass_threshold", True, "pass_threshold must be a number or null, not true."),
    ],
)
def test_a_setting_of_the_wrong_type_is_named_with_its_value(name, value, message):
    error = refusal("text_similarity", {**SETTINGS["text_similarity"], name: value})
    assert (dotted(error.path), error.code, error.message) == (name, "invalid_type", message)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_a_threshold_that_is_not_finite_is_refused(value):
    error = refusal("text_similarity", {**SETTINGS["text_similarity"], "pass_threshold": value})
    assert (dotted(error.path), error.code) == ("pass_threshold", "invalid_value")
    assert len(error.message) < 200


@pytest.mark.parametrize("kind", SETTINGS)
@given(data=st.data(), value=JSON_VALUES.filter(lambda value: not isinstance(value, str)))
def test_no_value_that_is_no_text_is_taken_for_one(kind, data, value):
    name = data.draw(st.sampled_from([name for name in SETTINGS[kind] if name != "pass_threshold"]))
    error = refusal(kind, {**SETTINGS[kind], name: value})
    assert (dotted(error.path), error.code) == (name, "invalid_type")
    assert error.message.startswith(f"{name} must be a string, not ")


def test_a_whole_number_is_read_as_the_number_it_is():
    settings = {**SETTINGS["text_similarity"], "pass_threshold": 1}
    threshold = build_grader("text_similarity", settings).pass_threshold
    assert (type(threshold), threshold) == (float, 1.0)


def test_a_long_value_is_cut_in_the_message():
    assert len(refusal("string_check", {**STRING_CHECK, "operation": "x" * 10_000}).message) < 250


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("missing", ["item.a", "sample.oddity"])
def test_a_missing_variable_makes_the_mark_errored(kind, missing):
    settings = {**SETTINGS[kind], "input": f"{{{{ {missing} }}}}"}
    mark = build_grader(kind, settings).grade(Sample({}, {"output_text": "x"}))
    assert mark == Mark(
        None, None, "", Fault("invalid_variable_error", f"This row has no {missing}.")
    )
    assert mark.errored


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_template_that_fills_the_memory_makes_the_mark_errored(kind):
    grader = build_grader(kind, {**SETTINGS[kind], "input": "{{item.a}}" * 300})
    mark = grader.grade(Sample({"a": "x" * 100_000}, None))
    assert (mark.value, mark.passed, mark.error.code) == (None, None, "text_too_long")


def test_a_sample_renders_a_template_once():
    item = {"a": "old"}
    sample = Sample(item, None)
    assert sample.render("{{item.a}}!") == "old!"
    item["a"] = "new"
    assert sample.render("{{item.a}}!") == "old!"
    assert sample.render("{{item.a}}?") == "new?"


@pytest.mark.parametrize("made", [[], 0, "", "text"])
def test_what_is_remembered_is_made_once(made):
    calls = []
    sample = Sample({}, None)
    for _ in range(2):
        assert sample.memo("key", lambda: calls.append(1) or made) == made
    assert calls == [1]


def test_a_mark_of_a_fault_has_neither_value_nor_verdict():
    mark = Mark.errored_by("code", "Sentence.")
    assert (mark.value, mark.passed, mark.errored) == (None, None, True)
    assert not Mark(0.0, False).errored


def test_settings_survive_json():
    for kind, settings in SETTINGS.items():
        assert build_grader(kind, json.loads(json.dumps(settings))) == build_grader(kind, settings)
