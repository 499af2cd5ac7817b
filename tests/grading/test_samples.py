"""What graders see of an answer: always the same keys, and what was not said is empty."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.grading.graders import build_grader
from apps.grading.graders.base import PlainGrader
from apps.grading.samples import NOTHING_SAID, Sample, complete_sample, shortened_sample
from apps.grading.templating import MissingVariable

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": [1]}'}}
AUDIO = {"id": "a", "data": "UklG", "transcript": "Hello", "expires_at": 1}
HEARD = {"data": "UklG", "transcript": "Hello"}


def completion(**message: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "message": {"role": "assistant", **message}}]}


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (None, {}),
        ({}, {}),
        ({"output_text": "hi"}, {"output_text": "hi"}),
        ({"output_text": None, "output_tools": None, "output_json": None}, {}),
        (completion(content="hi"), {"output_text": "hi"}),
        (completion(content=None, refusal=None), {}),
        (completion(content=None, tool_calls=[CALL]), {"output_tools": [CALL]}),
        (completion(content=None, tool_calls=None), {}),
        (completion(content=None, audio=AUDIO), {"output_audio": HEARD}),
        ({"output_text": "", "output_audio": HEARD}, {"output_audio": HEARD}),
        (completion(content="hi", audio=None), {"output_text": "hi"}),
        ({**completion(tool_calls=[CALL]), "output_text": "own"},
         {"output_text": "own", "output_tools": [CALL]}),
        ({**completion(content="hi"), "output_text": None}, {"output_text": "hi"}),
        (completion(content=[{"type": "text", "text": "h"}, "i"]), {"output_text": "hi"}),
    ],
)  # fmt: skip
def test_an_answer_always_has_its_five_keys(given: Any, seen: dict[str, Any]) -> None:
    sample = Sample({}, None if given is None else complete_sample(given)).sample
    assert {name: sample[name] for name in NOTHING_SAID} == {
        **NOTHING_SAID,
        "choices": (given or {}).get("choices"),
        **seen,
    }


@pytest.mark.parametrize(
    "path",
    [
        "output_text", "output_json", "output_audio", "output_audio.transcript", "output_json.a.b",
        "output_tools[0].function.name", "output_tools[3]", "choices[0].message.content",
    ],
)  # fmt: skip
def test_what_was_not_said_is_the_empty_text(path: str) -> None:
    for said in (None, {"output_text": None}):
        assert Sample({}, said).render(f"<{{{{ sample.{path} }}}}>") == "<>"


def test_a_message_without_a_call_or_a_text_has_said_nothing_of_the_kind() -> None:
    sample = Sample({}, complete_sample(completion(content=None)))
    for path in ("content", "tool_calls", "tool_calls[0].function.name", "audio.transcript"):
        assert sample.render(f"{{{{ sample.choices[0].message.{path} }}}}") == ""
    assert sample.render("{{ sample.output_tools }}") == "[]"


@pytest.mark.parametrize(
    "path",
    [
        "oddity", "choices[1].message.content", "choices[0].message.oddity", "output_json.missing",
        "output_tools[0].function.arguments.a[1]", "output_tools[0].oddity", "output_json.a[0]",
    ],
)  # fmt: skip
def test_an_answer_that_lacks_what_is_named_errs(path: str) -> None:
    answer = completion(content="hi", tool_calls=[CALL])
    given = complete_sample({**answer, "output_json": {"a": {}, "none": None}})
    with pytest.raises(MissingVariable):
        Sample({}, given).render(f"{{{{ sample.{path} }}}}")


@pytest.mark.parametrize("given", [{}, {"choices": "odd"}, {"choices": [None]}, {"model": "m"}])
def test_what_is_no_answer_at_all_has_no_text(given: Any) -> None:
    with pytest.raises(MissingVariable):
        Sample({}, complete_sample(given)).render("{{ sample.output_text }}")


def test_null_stays_null_in_a_row_and_in_a_models_own_json() -> None:
    sample = Sample({"none": None}, {"output_text": None, "output_json": {"none": None}})
    template = "{{ item.none }} {{ sample.output_json.none }} {{ sample.output_json }}"
    assert sample.render(template) == 'null null {"none":null}'


@pytest.mark.parametrize("reference", ["null", "{{ item.none }}", "{{ item.about }}"])
@pytest.mark.parametrize("answer", [None, {"output_text": None}, completion(content=None)])
def test_no_answer_never_equals_a_missing_reference_nor_a_text_about_null(
    answer: Any, reference: str
) -> None:
    item = {"none": None, "about": "null values"}
    sample = Sample(item, answer and complete_sample(answer))
    for settings in ({"operation": "eq"}, {"operation": "like"}):
        settings |= {"input": "{{ sample.output_text }}", "reference": reference}
        grader = build_grader("string_check", settings)
        assert isinstance(grader, PlainGrader)
        assert grader.grade(sample).passed is False
    swapped = {"operation": "like", "input": reference, "reference": "{{ sample.output_text }}"}
    grader = build_grader("string_check", swapped)
    assert isinstance(grader, PlainGrader)
    assert grader.grade(sample).passed is True  # contract: openai section 13.1: as any empty text


@given(
    st.one_of(st.none(), st.text(), st.lists(st.fixed_dictionaries({"text": st.text()}))),
    st.lists(st.just({"id": "c", "type": "function"}), max_size=2),
    st.dictionaries(st.sampled_from(["model", "output_text", "output_tools", "x"]), st.text()),
)
def test_a_shortened_sample_is_completed_to_what_it_was(
    content: Any, tools: Any, more: Any
) -> None:
    message = {"role": "assistant", "content": content, **({"tool_calls": tools} if tools else {})}
    sample = complete_sample({"choices": [{"message": message}], **more})
    short = shortened_sample(sample)
    assert list(complete_sample(short).items()) == list(sample.items())
    if not more and content:
        assert "output_text" not in short
