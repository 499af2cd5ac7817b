"""Criteria are written and read as JSON, and an evaluation gets others."""

import pytest
from django.core.exceptions import PermissionDenied
from hypothesis import given
from hypothesis import strategies as st

from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.errors import Invalid, StateError, dotted
from apps.evaluations.models import Criterion, Evaluation
from apps.evaluations.services.criteria import change_criteria, read_criteria, write_criteria
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.services.named_runs import name_evaluation
from apps.evaluations.services.previews import try_criteria
from apps.evaluations.services.regrades import regrade_run
from tests.evaluations.engine.workers import work_until_idle
from tests.factories import (
    SAME,
    make_actor,
    make_evaluation,
    make_rows,
    make_run,
)

LOOSE = NewCriterion("string_check", "loose", {**SAME.settings, "operation": "like"})
LOOSE_ON_ITEM = NewCriterion(
    "string_check", "loose", {"input": "{{ item.input }}", "reference": "a", "operation": "like"}
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
settings = st.dictionaries(
    texts.filter(lambda key: key not in {"type", "name", "id"}),
    st.recursive(
        texts | st.integers(-(2**53), 2**53) | st.none() | st.booleans(), st.lists, max_leaves=5
    ),
    max_size=4,
)


@pytest.fixture
def actor(db):
    return make_actor()


@pytest.fixture
def evaluation(actor):
    return make_evaluation(actor)


def of_version(evaluation: Evaluation, version: int) -> list[str]:
    found = Criterion.objects.filter(evaluation=evaluation, version=version)
    return list(found.values_list("name", flat=True))


@given(
    st.lists(st.builds(NewCriterion, texts.filter(bool), texts.filter(bool), settings), max_size=4)
)
def test_criteria_come_back_as_they_were_written(criteria):
    assert read_criteria(write_criteria(criteria)) == criteria


def test_an_id_that_was_copied_along_is_no_setting():
    text = '[{"id": "same-1", "type": "string_check", "name": "same", "operation": "eq"}]'
    assert read_criteria(text) == [NewCriterion("string_check", "same", {"operation": "eq"})]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "criteria"),
        ("[NaN]", "criteria"),
        ("{}", "criteria"),
        ("[1]", "criteria[0]"),
        ('[{"type": "x", "name": ""}]', "criteria[0].name"),
        ('[{"type": 3, "name": "x"}]', "criteria[0].type"),
        (f'[{{"type": "x", "name": "{"n" * 3_001}"}}]', "criteria[0].name"),
        (f"[{','.join(['{}'] * 1_001)}]", "criteria"),
    ],
)
def test_what_are_no_criteria_is_refused_with_its_place(text, path):
    with pytest.raises(Invalid) as refusal:
        read_criteria(text)
    assert dotted(refusal.value.problems[0].path) == path


def test_changed_criteria_are_a_version_and_runs_keep_theirs(actor, evaluation):
    before = make_run(actor, evaluation=evaluation)
    change_criteria(actor, evaluation, [SAME, LOOSE])
    after = make_run(actor, evaluation=evaluation)
    assert (before.criteria_version, after.criteria_version) == (1, 2)
    assert (of_version(evaluation, 1), of_version(evaluation, 2)) == (["same"], ["same", "loose"])
    assert evaluation.criteria_version == 2
    assert AuditEvent.objects.filter(action="evaluation.criteria").count() == 1


def test_equal_criteria_change_nothing_and_earlier_ones_come_back(actor, evaluation):
    change_criteria(actor, evaluation, [SAME])
    assert evaluation.criteria_version == 1
    for criteria, version in (([LOOSE], 2), ([SAME], 1), ([], 3), ([], 3), ([LOOSE, SAME], 4)):
        change_criteria(actor, evaluation, criteria)
        assert evaluation.criteria_version == version
        wanted = [one.name for one in criteria]
        assert [one.name for one in evaluation.criteria_of(version)] == wanted


def test_bad_criteria_change_nothing(actor, evaluation):
    bad = NewCriterion("string_check", "bad", {**SAME.settings, "operation": "near"})
    with pytest.raises(Invalid) as refusal:
        change_criteria(actor, evaluation, [SAME, bad])
    assert dotted(refusal.value.problems[0].path) == "criteria[1].operation"
    assert evaluation.criteria.count() == 1


def test_who_may_not_edit_neither_changes_nor_tries(actor, evaluation):
    viewer = make_actor(Role.VIEWER, account=actor.account)
    for stranger in (viewer, make_actor()):
        with pytest.raises(PermissionDenied):
            change_criteria(stranger, evaluation, [LOOSE])
        with pytest.raises(PermissionDenied):
            try_criteria(stranger, evaluation, criteria=[LOOSE], source=make_rows(1))


@pytest.mark.django_db(transaction=True)
def test_an_evaluation_that_takes_its_scorers_by_name_keeps_them_whatever_is_tried(actor):
    def name_it(*scorers: str) -> Evaluation:
        return name_evaluation(
            actor, call_name="capitals", dataset_name="capitals", scorers=scorers
        )

    evaluation = name_it("match")
    with pytest.raises(StateError, match="by name: match"):
        change_criteria(actor, evaluation, [LOOSE_ON_ITEM])
    run = make_run(actor, evaluation=evaluation, source=[{"item": {"input": "a", "ideal": "a"}}])
    work_until_idle()
    run.refresh_from_db()
    assert regrade_run(actor, run, criteria=[LOOSE_ON_ITEM]).criteria_version == 3
    # The scorers' next version comes after that, and earlier ones come back.
    for scorers, version in ((["includes"], 4), (["match"], 2), (["includes"], 4)):
        named = name_it(*scorers)
        assert named.criteria_version == version
        assert of_version(named, version) == scorers
