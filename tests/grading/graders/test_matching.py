"""match, includes, fuzzy_match, json_match and levenshtein against the contract's own examples."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.errors import dotted
from apps.grading.graders import build_grader
from apps.grading.graders.base import InvalidSetting, Mark
from apps.grading.graders.levenshtein import levenshtein
from apps.grading.graders.matching import (
    LARGEST_TEXTS,
    fuzzy_match,
    includes,
    json_match,
    match,
    normalised,
)
from apps.grading.graders.text_similarity import LARGEST_TABLE
from apps.grading.samples import Sample

WORKED = json.loads(Path(__file__).with_name("worked_scores.json").read_text())
KINDS = ("match", "includes", "fuzzy_match", "json_match", "levenshtein")
TEXTS = st.text(st.characters(exclude_categories=[]), max_size=30)
WORDS = st.lists(st.sampled_from(["a", "the", "The", "tea", "!", "Ä", " "]), max_size=6).map(
    "".join
)


def choice(content: Any, **more: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": content}, **more}


def marked(kind: str, actual: Any, ideal: Any, **settings: Any) -> Mark:
    """Texts as graders of every run get them; lists by the raw values of a choices run."""
    sample = {"output_text": actual, "choices": actual}
    if isinstance(actual, list):
        settings["input"] = "{{ sample.choices }}"
    return build_grader(kind, settings).grade(Sample({"ideal": ideal}, sample))


def value(kind: str, actual: Any, ideal: Any) -> float | None:
    return marked(kind, actual, ideal, choices=True).value


@pytest.mark.parametrize("choices", [False, True])
@pytest.mark.parametrize(
    ("kind", "row"), [(kind, row) for kind, rows in WORKED.items() for row in rows]
)
def test_every_example_of_the_contract_scores_as_it_says(
    kind: str, row: dict[str, Any], choices: bool
) -> None:
    mark = marked(kind, row["actual"], row["ideal"], choices=choices)
    assert mark.value == pytest.approx(row["score"], abs=1e-6), row["why"]
    assert mark.passed is (None if kind == "levenshtein" else row["score"] == 1)


def test_the_examples_of_every_kind_are_there() -> None:
    counts = {kind: len(rows) for kind, rows in WORKED.items()}
    assert counts == {
        "match": 14,
        "includes": 14,
        "fuzzy_match": 21,
        "json_match": 24,
        "levenshtein": 18,
    }


@pytest.mark.parametrize("choices", [False, True])
@pytest.mark.parametrize(
    ("kind", "actual", "ideal", "score"),
    [
        ("match", "tea", ["coffee", "tea"], 1),
        ("match", "tea", ["coffee", "Tea"], 0),
        ("match", "", ["", "tea"], 1),
        ("match", '["tea"]', ["tea"], 0),
        ("includes", "some tea", ["coffee", "tea"], 1),
        ("includes", "some tea", ["coffee", "TEA"], 0),
        ("includes", "some tea", ["tea"], 1),
        ("fuzzy_match", "The tea!", ["coffee", "TEA"], 1),
        ("fuzzy_match", "milk", ["coffee", "tea"], 0),
        ("fuzzy_match", "a", ["coffee", "the"], 1),
        ("levenshtein", "kitten", ["nothing", "sitting"], 4 / 7),
        ("json_match", '["a", "b"]', ["a", "b"], 1),
        ("json_match", '"a"', ["a", "b"], 0),
        # A text that is written as a list stays a text.
        ("match", "tea", '["coffee", "tea"]', 0),
        ("match", '["coffee", 2]', ["coffee", 2], 0),
    ],
)
def test_of_a_list_of_texts_any_counts(
    kind: str, actual: str, ideal: Any, score: float, choices: bool
) -> None:
    mark = marked(kind, actual, ideal, choices=choices)
    assert (mark.value, mark.error) == (pytest.approx(score), None)


@pytest.mark.parametrize(
    ("kind", "actual", "ideal", "settings", "score"),
    [
        ("match", "Rome, of course", "Rome", {"prefix": True}, 1),
        ("match", "In Rome", ["Rome", "Paris"], {"prefix": True}, 0),
        ("match", "Rome", "Rome, of course", {"prefix": True}, 0),
        ("match", [choice("Rome!")], ["Paris", "Rome"], {"prefix": True, "choices": True}, 1),
        ("includes", "in ROME", ["Paris", "Rome"], {"ignore_case": True}, 1),
        ("includes", "in rome", "Rome", {"ignore_case": False}, 0),
        ("includes", [choice("ROME")], "rome", {"ignore_case": True, "choices": True}, 1),
    ],
)
def test_settings_widen_what_passes(
    kind: str, actual: Any, ideal: Any, settings: dict[str, bool], score: float
) -> None:
    assert marked(kind, actual, ideal, **settings).value == score


def test_the_evidence_names_the_ideals_of_a_list() -> None:
    mark = marked("match", "tea", ["a", "b", "c", "d", "e", "f"])
    assert mark.evidence == "'tea' match one of 'a', 'b', 'c', 'd', 'e' and 1 more"


@pytest.mark.parametrize("kind", KINDS)
def test_of_choices_a_list_of_texts_is_compared_with_the_content(kind: str) -> None:
    ideal = ["8", "7"]
    assert value(kind, [choice("7")], ideal) == (kind != "json_match")


@pytest.mark.parametrize("kind", KINDS)
def test_of_choices_a_text_is_compared_with_the_content(kind: str) -> None:
    assert value(kind, [choice("7")], "7") == 1
    assert value(kind, "7", [choice("7")]) == 1
    assert value(kind, [choice("7", finish_reason="stop")], "8") == 0


def test_choices_match_when_the_whole_lists_are_equal() -> None:
    ideal = [choice("x", finish_reason="stop")]
    assert value("match", [choice("x", finish_reason="stop")], ideal) == 1
    assert value("match", [choice("x", finish_reason="length")], ideal) == 0
    assert value("match", [choice("x", finish_reason="stop", index=1)], ideal) == 0
    assert value("match", [choice("x", finish_reason="stop")] * 2, ideal) == 0
    assert value("match", [choice("x", finish_reason="stop")], [choice("x")]) == 0
    # What one server writes as null another leaves out.
    assert value("match", [choice("x", finish_reason="stop", logprobs=None)], ideal) == 1


@pytest.mark.parametrize("kind", ["includes", "fuzzy_match", "json_match"])
def test_every_pair_of_contents_must_pass_and_none_may_be_left_over(kind: str) -> None:
    one, two = choice("1"), choice("2", index=1)
    assert value(kind, [one, two], [one, two]) == 1
    assert value(kind, [two, one], [one, two]) == 0
    assert value(kind, [one, one], [one, two]) == 0
    assert value(kind, [one], [one, two]) == 0
    assert value(kind, [one, two], [one]) == 0
    assert value(kind, [one, two], "1") == 0
    assert value(kind, [], []) == 1


def test_levenshtein_of_choices_looks_at_the_first_alone() -> None:
    assert value("levenshtein", [choice("ab"), choice("zz")], [choice("ab")]) == 1
    assert value("levenshtein", [], [choice("")]) == 1
    assert value("levenshtein", [choice("ab")], []) == 0


def test_an_ideal_may_be_choices_written_as_json_and_a_reply_may_not() -> None:
    written = json.dumps([choice("7")])
    assert value("includes", "it is 7", written) == 1
    assert value("includes", "it is 7", f" \n{written} ") == 1
    assert value("match", written, written) == 0
    assert marked("match", written, written, choices=False).value == 1


@pytest.mark.parametrize(
    "ideal",
    [
        "[]",
        "[1, 2]",
        '{"index": 0}',
        '[{"index": 0}]',
        '[{"message": {"role": "assistant"}}]',
        '[{"index": 0, "message": {"content": "7"}}]',
        '[{"index": 0, "message": {"role": "assistant"}}, 1]',
        "[" * 5_000,
        '[{"index": 0, "message": {"role": "assistant", "content": "7"}}',
    ],
)
def test_any_other_json_is_a_text(ideal: str) -> None:
    assert value("match", ideal, ideal) == 1


def test_a_null_is_the_empty_text_among_choices_and_the_word_null_elsewhere() -> None:
    assert value("match", "", None) == 1
    assert value("match", [choice(None)], None) == 1
    assert marked("match", "null", None).value == 1
    assert value("match", "3", 3) == 1
    assert value("match", '["a",2]', ["a", 2]) == 1


def test_a_template_with_more_than_a_placeholder_is_text_even_among_choices() -> None:
    ideal = [choice("7")]
    settings = {"reference": "7 {{ item.ideal }}", "input": "x", "choices": True}
    mark = build_grader("includes", settings).grade(Sample({"ideal": ideal}, None))
    assert mark.evidence.startswith("'x' includes '7 [{\"index\"")


def test_parts_of_a_content_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}, 3]
    assert value("match", [choice(parts)], "ab") == 1


@pytest.mark.parametrize("odd", [1, None, "x", {}, {"message": 1}, {"message": {"content": 1}}])
@pytest.mark.parametrize("kind", KINDS)
def test_an_odd_choice_of_a_reply_has_an_empty_content(kind: str, odd: Any) -> None:
    assert value(kind, [odd], "word") == 0


def test_an_article_is_a_whole_word_and_a_mark_makes_it_none() -> None:
    assert normalised("The cat, a hat: an THEATRE") == "cat hat theatre"
    assert normalised("a_b an1 ä") == "ab an1 ä"
    decomposed = unicodedata.normalize("NFD", "á")
    assert normalised(f"x {decomposed}") == f"x {decomposed}"
    assert normalised("a a\tthe\nan") == ""
    assert normalised("«a» –the– a\x01b") == "« » – – \x01b"


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    ("actual", "ideal", "score"),
    [
        ("9007199254740993", "9007199254740992", 1),
        ("-0", "0", 1),
        ("1e400", "1e400", 0),
        ("1" * 400, "1" * 400, 0),
        ("18446744073709551616", "18446744073709551617", 1),
        ("NaN", "NaN", 0),
        ("-Infinity", "-Infinity", 0),
        ('"\\ud800"', '"\\ud800"', 0),
        ('"\ud800"', '"\ud800"', 0),
        ("\ufeff1", "\ufeff1", 0),
        ("\u00a01", "1", 0),
        (" \t\r\n1\n", "1", 1),
        ("{'a': 1}", "{'a': 1}", 0),
        ("[1,]", "[1]", 0),
        ("// x\n1", "1", 0),
        ('"a\nb"', '"a\nb"', 0),
        ("true", "1", 0),
        ("[true]", "[1]", 0),
        ("null", "false", 0),
        ("[]", "{}", 0),
        ('{"a":null}', '{"b":null}', 0),
        (nested(127), nested(127), 1),
        (nested(128), nested(128), 0),
        (nested(200_000), nested(200_000), 0),
        ('{"a":' * 80_000, '{"a":' * 80_000, 0),
    ],
)
def test_json_is_strict_and_its_numbers_are_floats(actual: str, ideal: str, score: int) -> None:
    assert value("json_match", actual, ideal) == score


def test_levenshtein_passes_from_its_threshold_on_and_has_no_verdict_without_one() -> None:
    assert marked("levenshtein", "form", "from").passed is None
    assert marked("levenshtein", "form", "from", pass_threshold=0.5).passed is True
    assert marked("levenshtein", "form", "from", pass_threshold=0.51).passed is False


def test_texts_that_would_take_seconds_to_compare_are_errored() -> None:
    long = "x" * (int(LARGEST_TABLE**0.5) + 1)
    mark = marked("levenshtein", long, long)
    assert mark.error is not None
    assert mark.error.code == "text_too_long"


@pytest.mark.parametrize(("kind", "is_slow"), [("fuzzy_match", 1), ("json_match", 1), ("match", 0)])
def test_what_goes_through_texts_letter_by_letter_takes_no_vast_ones(
    kind: str, is_slow: int
) -> None:
    half = LARGEST_TEXTS // 2
    assert marked(kind, "1" * half, "1" * half).error is None
    mark = marked(kind, "1" * half, "1" * (half + 1))
    assert (mark.error is not None and mark.error.code == "text_too_long") is bool(is_slow)


def test_the_mark_shows_what_was_compared() -> None:
    assert marked("fuzzy_match", "Tea", "tea!").evidence == "'Tea' fuzzy_match 'tea!'"
    assert marked("match", [choice("Tea")], "x", choices=True).evidence == (
        "1 choice, first 'Tea' match 'x'"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "wrong"), [("choices", 1), ("choices", None), ("input", 3), ("reference", None)]
)
def test_a_setting_of_the_wrong_type_is_named(kind: str, name: str, wrong: Any) -> None:
    with pytest.raises(InvalidSetting) as refused:
        build_grader(kind, {name: wrong})
    assert dotted(refused.value.path) == name


@given(TEXTS | WORDS, TEXTS | WORDS)
def test_scores_stay_in_their_range_for_any_two_texts(one: str, other: str) -> None:
    for holds in (match, includes, fuzzy_match, json_match):
        assert holds(one, other) in {True, False}
    assert 0 <= levenshtein(one, other) <= 1


@given(TEXTS | WORDS)
def test_a_text_matches_itself(text: str) -> None:
    assert match(text, text)
    assert includes(text, text)
    assert fuzzy_match(text, text)
    assert levenshtein(text, text) == 1


@given(TEXTS | WORDS, TEXTS | WORDS)
def test_what_is_symmetric_is_symmetric(one: str, other: str) -> None:
    for holds in (match, fuzzy_match, json_match):
        assert holds(one, other) == holds(other, one)
    assert levenshtein(one, other) == levenshtein(other, one)


@given(TEXTS, TEXTS)
def test_equal_texts_and_no_others_score_1_by_levenshtein(one: str, other: str) -> None:
    assert (levenshtein(one, other) == 1) == (one == other)


@given(TEXTS | WORDS)
def test_normalising_trims_and_leaves_single_blanks(text: str) -> None:
    done = normalised(text)
    assert done == " ".join(done.split())


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON_VALUES)
def test_json_matches_itself_however_it_is_written(made: Any) -> None:
    assert json_match(json.dumps(made), json.dumps(made, indent=2, ensure_ascii=False))


@given(JSON_VALUES, JSON_VALUES)
def test_choices_of_any_shape_never_raise(one: Any, other: Any) -> None:
    for kind in KINDS:
        score = value(kind, [one], other)
        assert score is not None
        assert 0 <= score <= 1
