"""Verdicts go into a result's row and come out as they were, in little room."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.evaluations.models import MOST_REPEATS, Result, key_of
from apps.evaluations.packing import (
    ERRORED,
    FAILED,
    NOTHING,
    PASSED,
    Packed,
    Verdict,
    pack,
    pack_plain,
    unpack,
)
from apps.evaluations.reports import VERDICTS, Wanted, read_items
from apps.evaluations.reports.items import evidence_of
from apps.evaluations.services.evaluations import NewCriterion, create_evaluation
from apps.evaluations.services.runs import start_run
from apps.evaluations.targets import Recorded
from tests.evaluations.engine.workers import work_until_idle
from tests.factories import make_actor
from tests.web.worked import make_run

ROOT = Path(__file__).parents[2]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
WORDS = st.one_of(st.just(""), TEXT)
EXCHANGES = st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), st.none())).map(
    lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False)
)
VALUES = st.floats(allow_nan=False, allow_infinity=False)
SAID = st.builds(
    Verdict,
    value=st.one_of(st.none(), VALUES),
    passed=st.sampled_from([True, False, None]),
    error_code=WORDS,
    error_message=WORDS,
    evidence=WORDS,
    exchange=st.one_of(st.none(), EXCHANGES),
    notes=st.one_of(st.none(), st.just({"clamped_from": 1.5})),
).filter(lambda one: bool(one.error_code) or not one.error_message)


@given(st.lists(st.one_of(st.none(), SAID), max_size=12), st.one_of(st.none(), st.just(("a", "b"))))
def test_what_is_packed_comes_out_again(verdicts: list[Verdict | None], own: Any) -> None:
    # A verdict without value and reason has the result's own, where that has one.
    told = [
        one._replace(error_code="a", error_message="b")
        if one and own and one.value is None and not one.error_code
        else one
        for one in verdicts
    ]
    assert unpack(pack(verdicts, own), own) == told


@given(
    st.lists(
        st.tuples(st.sampled_from([None, 0.0, 1.0, 0.25]), st.sampled_from([True, False, None]))
    )
)
def test_plain_verdicts_are_packed_as_all_are(
    marks: list[tuple[float | None, bool | None]],
) -> None:
    assert pack_plain(marks) == pack([Verdict(value, passed) for value, passed in marks])


@given(st.lists(st.one_of(st.none(), SAID), max_size=12))
def test_what_is_packed_says_by_its_letters_what_it_holds(verdicts: list[Verdict | None]) -> None:
    word = pack(verdicts).verdicts
    assert len(word) == len(verdicts)
    for letter, one in zip(word, verdicts, strict=True):
        assert (letter in PASSED) == (one is not None and one.passed is True)
        assert (letter in FAILED) == (one is not None and one.passed is False)
        assert (letter in ERRORED) == (one is not None and one.value is None)


def test_plain_verdicts_take_a_letter_each() -> None:
    verdicts = [Verdict(1.0, True), Verdict(0.0, False), None]
    assert pack(verdicts) == Packed("pf-")
    assert pack([]) == NOTHING


def test_an_item_without_an_answer_does_not_repeat_its_reason() -> None:
    lost = Verdict(None, None, "model_timeout", "After 120 s.")
    packed = pack([lost, lost], ("model_timeout", "After 120 s."))
    assert packed == Packed("ee")
    assert unpack(packed, ("model_timeout", "After 120 s.")) == [lost, lost]


@pytest.mark.django_db
@pytest.mark.parametrize("backwards", [False, True])
def test_results_are_found_by_what_a_criterion_said(backwards: bool) -> None:
    run = make_run(make_actor(), ("pe", "fp", "ep", "ff", "sp"))
    first, second = run.evaluation.criteria.order_by("position")
    found = {
        (criterion.name, state): [
            result.row_index
            for result in Wanted(run, criterion, state).find(None, backwards=backwards, limit=9)
        ]
        for criterion in (first, second)
        for state in VERDICTS
    }
    wanted = {
        ("same 1", "passed"): [0],
        ("same 1", "failed"): [1, 3],
        ("same 1", "errored"): [2],
        ("same 2", "passed"): [1, 2, 4],
        ("same 2", "failed"): [3],
        ("same 2", "errored"): [0],
    }
    assert found == {key: rows[::-1] if backwards else rows for key, rows in wanted.items()}
    after = key_of(run.number, 1, MOST_REPEATS - 1)
    passed = Wanted(run, second, "passed").find(after, backwards=backwards, limit=1)
    assert [result.row_index for result in passed] == [1 if backwards else 2]


PLAIN = [
    NewCriterion(
        "string_check",
        "same",
        {"input": "{{ sample.output_text }}", "reference": "{{ item.text }}", "operation": "ilike"},
    ),
    NewCriterion(
        "text_similarity",
        "near",
        {
            "input": "{{ sample.output_text }}",
            "reference": "{{ item.text }}",
            "metric": "bleu",
            "pass_threshold": 0.4,
        },
    ),
    NewCriterion("includes", "holds", {"input": "{{ sample.output_text }}"}),
]


@pytest.mark.django_db(transaction=True)
def test_evidence_is_the_same_when_it_is_made_again() -> None:
    actor = make_actor()
    rows = [
        {"item": {"text": "a tall tree", "input": "x", "ideal": "tree"}, "sample": sample}
        for sample in (
            {"output_text": "a tall tree"},
            {"choices": [{"message": {"role": "assistant", "content": "a small tree"}}]},
        )
    ]
    evaluation = create_evaluation(actor, criteria=PLAIN, has_sample=True)
    run = start_run(actor, evaluation, source=rows, target=Recorded())
    work_until_idle()
    items = read_items(run, Result.objects.of_run(run).in_order())
    assert [len(item.scores) for item in items] == [3, 3]
    assert {item.result.verdict_traces for item in items} == {None}
    for item in items:
        for one in item.scores:
            assert one.evidence == evidence_of(one.criterion, item.item, item.sample)
    assert "'a small tree' ilike 'a tall tree'" in items[1].scores[0].evidence


def test_nobody_else_reads_the_packed_columns() -> None:
    """One reading function serves every face."""
    readers = {"apps/evaluations/models/results.py", "apps/evaluations/packing.py"}
    found = {
        str(path.relative_to(ROOT))
        for folder in ("apps", "evalplatform")
        for path in (ROOT / folder).rglob("*.py")
        if "migrations" not in path.parts
        and any(name in path.read_text() for name in ("verdict_faults", "verdict_traces"))
    }
    assert found == readers
