"""One reader for the replies of all judges: what is dropped around a verdict, and what counts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.grading.graders.base import Fault
from apps.grading.graders.replies import (
    Unreadable,
    last_object,
    read_label,
    read_number,
    read_reply,
)

VERDICT = '{"steps": [], "result": 0.75}'
TEXT = st.text(st.characters(exclude_categories=[]))


def reply(content: Any, reason: str | None = "stop", **message: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **message}
    return {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}


def result_of(text: str) -> Any:
    return last_object(text, "result")["result"]


@pytest.mark.parametrize(
    "content",
    [
        VERDICT,
        f"  \n{VERDICT}\n",
        f"```json\n{VERDICT}\n```",
        f"```\n{VERDICT}```",
        f"Here is my verdict:\n\n```json\n{VERDICT}\n```\nI hope that this helps!",
        f"{VERDICT} because it is close",
        f"The braces {{of prose}} and [1] do not count. {VERDICT}",
        f"{{{VERDICT}}}",
        f"<think>Is it {{...}}? First draft: {{'result': 0.1}}</think>\n{VERDICT}",
        f'<think>{{"result": 0.1}}</think>{VERDICT}',
        f'the template opened it: {{"result": 0.1}}</think>{VERDICT}',
        f"<thinking>hm</thinking>{VERDICT}",
        [{"type": "text", "text": VERDICT}],
        [{"type": "text", "text": VERDICT[:9]}, {"type": "output_text", "text": VERDICT[9:]}],
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": '{"result": 1}'}]},
            {"type": "text", "text": VERDICT},
        ],
        f'{{"result": 0.1}} No, wait. {VERDICT}',
        f'{VERDICT} {{"note": "another object"}}',
        '{"why": "two\nlines", "result": 0.75}',
        '{"steps": [{"description": "x", "result": 0.1}], "result": 0.75}',
        '{"result": 0.1, "result": 0.75}',
        '{"quotes": "a </think> of the answer", "result": 0.75}',
    ],
)
def test_a_verdict_is_found_in_what_models_put_around_it(content: Any) -> None:
    assert read_reply(reply(content), result_of) == 0.75


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("It is good.", "has no JSON object"),
        ("0.75", "has no JSON object"),
        ('[{"result": 1}]', "has no JSON object"),
        ('{"verdict": {"result": 1}}', "has no result"),
        ('{"Result": 1}', "has no result"),
        ("{'result': 1}", "has no JSON object"),
        ('{"result": 1,}', "has no JSON object"),
        ('{"result": 0.75', "breaks off"),
        ('{"verdict": {"result": 1}, "why": "it is', "breaks off"),
        ('Draft: {"result": 1}. Final: {"steps": [{"description": "f', "breaks off"),
        ('{"verdict": {"result": 1}, oops}', "has no JSON object"),
        ("[" * 100_000, "has no JSON object"),
        ('{"a":' * 100_000, "JSON object"),
        ('["' * 100_000, "has no JSON object"),
        ('{"' * 100_000, "has no JSON object"),
        ('{"a":1}[1, ' * 50_000, "has no result"),
        ("{ " * 100_000, "breaks off"),
        ("<think>{}</think>", "is empty"),
        ('<think>cut in thought {"result": 1}', "is empty"),
        (" \n ", "is empty"),
    ],
)
def test_what_is_nested_broken_or_thought_is_no_verdict(text: str, word: str) -> None:
    found = read_reply(reply(text), result_of)
    assert isinstance(found, Fault)
    assert found.code == "model_grader_parse_error"
    assert word in found.message


@pytest.mark.parametrize(
    ("said", "code", "word"),
    [
        (reply(None, "length"), "length", "cut at its limit of tokens"),
        (reply("", "max_tokens"), "length", "cut at its limit of tokens"),
        (reply("<think>and so on", "length"), "length", "cut at its limit of tokens"),
        (reply('{"steps": [{"desc', "length"), "length", "breaks off"),
        (reply(None, "content_filter"), "content_filter", "content filter"),
        (reply(None, "stop", refusal="I cannot."), "model_grader_refusal_error", "I cannot."),
        (reply(None), "model_grader_parse_error", "empty"),
        (reply([]), "model_grader_parse_error", "empty"),
    ],
)
def test_a_reply_without_a_verdict_says_what_is_the_matter(said: Any, code: str, word: str) -> None:
    found = read_reply(said, result_of)
    assert isinstance(found, Fault)
    assert found.code == code
    assert word in found.message


def test_a_reply_that_was_cut_after_its_verdict_is_one() -> None:
    assert read_reply(reply(f"{VERDICT}\n\n\n", "length"), result_of) == 0.75


@pytest.mark.parametrize(
    "value",
    ["good", "Good", "GOOD.", "**good**", "_Good_!", '"good"', "`good`", " good\n", "“Good”",
     "```\ngood\n```", "(good)", "**Good.**"],
)  # fmt: skip
def test_a_label_is_meant_whatever_its_case_punctuation_and_emphasis(value: str) -> None:
    assert read_label(value, ["good", "bad"]) == "good"


@pytest.mark.parametrize(
    ("value", "labels", "meant"),
    [
        ("not good", ["good", "bad"], None),
        ("Score: good", ["good", "bad"], None),
        ("good or bad", ["good", "bad"], None),
        ("", ["good", "bad"], None),
        ("...", ["good", "bad"], None),
        (None, ["none", "null"], None),
        (["good"], ["good"], None),
        ({"label": "good"}, ["good"], None),
        (1, ["1", "2"], "1"),
        (True, ["true", "false"], "true"),
        ("-1", ["1", "2"], None),
        ("**-1**", ["-1", "1"], "-1"),
        ("9/10", ["9", "10"], None),
        ("Not Good", ["not_good", "good"], "not_good"),
        ("very-good", ["very good", "good"], "very good"),
        ("a", ["A", "a"], "a"),
        ("a.", ["A", "a"], None),
        ("A+.", ["A", "A+"], "A+"),
        ("yes!", ["yes", "yes!"], "yes!"),
        ("Yes?", ["yes", "yes!"], None),
        ("ÜBER", ["über"], "über"),
        ("好。", ["好", "坏"], "好"),
        ("+", ["+", "-"], "+"),
        ('["good"]', ["good"], None),
        ('{"label": "good"}', ["label good"], None),
        ("[good]", ["[good]"], "[good]"),
    ],
)
def test_a_label_is_one_of_those_that_there_are_and_only_one(
    value: Any, labels: list[str], meant: str | None
) -> None:
    assert read_label(value, labels) == meant


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0.8, 0.8), (1, 1.0), (-3, -3.0), ("0.8", 0.8), (" 0.8 ", 0.8), ("**0.8**", 0.8),
        ("-1", -1.0), (".5", 0.5), ("5.", 5.0), ("1e-1", 0.1), ("```\n0.8\n```", 0.8),
        ("N/A", None), ("", None), (None, None), (True, None), ([1], None), ({"a": 1}, None),
        ("9/10", None), ("Score: 0.9", None), ("80%", None), ("0,8", None), ("1_0", None),
        ("nan", None), ("inf", None), (float("nan"), None), (float("inf"), None), ("1e999", None),
        (10**400, None), ("٣", None), ("true", None), ("0.9 of 1", None),
    ],
)  # fmt: skip
def test_a_number_is_one_also_in_quotes_and_nothing_else_is(
    value: Any, number: float | None
) -> None:
    assert read_number(value) == number


@given(TEXT, st.sampled_from(["stop", "length", None]))
def test_reading_never_raises_and_what_it_says_can_be_stored(text: str, reason: str) -> None:
    for content in (text, f'{{"result": "{text}"}}', f'{{"result": {json.dumps(text)}}}'):
        found = read_reply(reply(content, reason), result_of)
        if isinstance(found, Fault):
            assert found.code in {"model_grader_parse_error", "length"}
        else:
            assert read_number(found) is None or found.strip()
            read_label(found, ["a", "b"])


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**300), 10**300))
def test_any_number_is_read_as_it_is_and_in_quotes(number: float) -> None:
    assert read_number(result_of(json.dumps({"result": number}))) == float(number)
    assert read_number(json.dumps(number)) == float(number)


def test_half_a_character_in_a_judges_json_does_not_get_into_what_is_stored() -> None:
    def refuse(text: str) -> Any:
        raise Unreadable(f"gives {result_of(text)}")

    found = read_reply(reply('{"result": "\\ud800"}'), refuse)
    assert isinstance(found, Fault)
    assert found.message.encode()
