"""Drafts: cases are added, edited, removed and frozen."""

import pytest

from apps.accounts.models import AuditEvent
from apps.datasets import bulk_insert
from apps.datasets.drafts import add_cases, edit_case, freeze_version, remove_case
from apps.datasets.models import DatasetVersion, TestCase
from apps.datasets.reading import read_cases
from apps.datasets.services import (
    create_dataset,
)
from apps.errors import Invalid, StateError, dotted
from apps.strict_json import parse_json
from tests.factories import make_actor, make_dataset, make_version

pytestmark = pytest.mark.django_db


def items_of(version: DatasetVersion) -> list:
    return [item for item, _ in read_cases(version)]


def numbered(count: int, start: int = 0) -> list[dict]:
    return [{"n": number} for number in range(start, start + count)]


def test_cases_come_back_in_the_order_and_with_the_keys_in_which_they_came():
    items = [{"b": 1, "a": [2, {"z": None}]}, {"ü": "\n", "n": 10**30}]
    version = make_version(items=items)
    assert items_of(version) == items
    assert [list(item) for item in items_of(version)] == [["b", "a"], ["ü", "n"]]
    assert version.case_count == 2


def test_add_cases_gives_the_cases_that_it_added(monkeypatch):
    actor = make_actor()
    dataset = make_dataset(actor, items=numbered(2))
    added = add_cases(actor, dataset, items=numbered(3, start=2))
    assert [parse_json(case.item)["n"] for case in added] == [2, 3, 4]
    monkeypatch.setattr("apps.datasets.drafts.PIECE_ROWS", 2)
    monkeypatch.setattr(bulk_insert, "PIECE_ROWS", 2)
    added = add_cases(actor, dataset, items=numbered(5, start=5))
    assert [parse_json(case.item)["n"] for case in added] == [5, 6, 7, 8, 9]
    assert items_of(freeze_version(actor, dataset)) == numbered(10)


def test_one_bad_item_adds_none_and_is_named():
    actor = make_actor()
    dataset = make_dataset(actor, items=[])
    with pytest.raises(Invalid) as caught:
        add_cases(actor, dataset, items=[{"n": 1}, {"n": float("nan")}])
    assert dotted(caught.value.problems[0].path) == "items[1]"
    assert not TestCase.objects.exists()


def test_freezing_needs_a_change_since_the_last_version():
    actor = make_actor()
    dataset = create_dataset(actor, name="empty")
    with pytest.raises(StateError):
        freeze_version(actor, dataset)
    add_cases(actor, dataset, items=[{"n": 1}])
    assert freeze_version(actor, dataset).num == 1
    with pytest.raises(StateError):
        freeze_version(actor, dataset)


def test_a_frozen_version_keeps_its_cases_through_edits_removals_and_additions():
    actor = make_actor()
    version = make_version(actor, items=numbered(3))
    first, second, _ = version.cases()
    edited = edit_case(actor, first, item={"n": "edited"}, sample={"output_text": "x"})
    remove_case(actor, second)
    add_cases(actor, version.dataset, items=[{"n": 3}])
    assert items_of(version) == numbered(3)
    newer = freeze_version(actor, version.dataset)
    assert (newer.num, newer.case_count) == (2, 3)
    assert list(read_cases(newer)) == [
        ({"n": "edited"}, {"output_text": "x"}),
        ({"n": 2}, None),
        ({"n": 3}, None),
    ]
    assert items_of(version) == numbered(3)
    assert (edited.key, edited.position) == (first.key, first.position)
    assert edited.pk != first.pk


def test_changes_of_what_the_draft_added_leave_no_trace_in_versions():
    actor = make_actor()
    dataset = make_dataset(actor, items=numbered(3))
    first, second, _ = dataset.draft_cases()
    assert edit_case(actor, first, item={"n": "edited"}).pk == first.pk
    remove_case(actor, second)
    version = freeze_version(actor, dataset)
    assert items_of(version) == [{"n": "edited"}, {"n": 2}]
    assert version.case_count == 2
    assert TestCase.objects.count() == 2


def test_a_case_cannot_be_changed_by_what_was_read_before_another_change():
    actor = make_actor()
    version = make_version(actor, items=numbered(2))
    stale = version.cases().first()
    edit_case(actor, stale, item={"n": "first"})
    with pytest.raises(StateError):
        edit_case(actor, stale, item={"n": "second"})
    with pytest.raises(StateError):
        remove_case(actor, stale)
    assert [parse_json(case.item)["n"] for case in version.dataset.draft_cases()] == ["first", 1]


def test_an_edit_is_recorded_with_what_was_there_before():
    actor = make_actor()
    case = make_dataset(actor, items=[{"n": 0}]).draft_cases().get()
    edit_case(actor, case, item={"n": 1})
    event = AuditEvent.objects.get(action="case.edit")
    assert (parse_json(event.before), parse_json(event.after)) == (
        {"item": {"n": 0}},
        {"item": {"n": 1}},
    )
    assert event.user == actor.user
