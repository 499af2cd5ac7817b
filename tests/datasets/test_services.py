"""Datasets, their drafts and their frozen versions."""

from datetime import timedelta

import pytest
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.utils import timezone

from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.datasets import bulk_insert as fills
from apps.datasets.bulk_insert import BeingFilled, Fill, purge_datasets
from apps.datasets.models import Dataset, DatasetVersion, TestCase
from apps.datasets.services import (
    add_cases,
    archive_dataset,
    create_dataset,
    delete_dataset,
    edit_case,
    examples_of,
    find_version,
    freeze_version,
    read_cases,
    remove_case,
    restore_dataset,
    update_dataset,
)
from apps.errors import Invalid, StateError, Unfit, dotted
from apps.strict_json import parse_json
from tests.factories import make_actor, make_dataset, make_version

pytestmark = pytest.mark.django_db


def items_of(version: DatasetVersion) -> list:
    return [item for item, _ in read_cases(version)]


def numbered(count: int, start: int = 0) -> list[dict]:
    return [{"n": number} for number in range(start, start + count)]


def let_lease_run_out(dataset: Dataset) -> None:
    Dataset.objects.filter(pk=dataset.pk).update(import_until=timezone.now() - timedelta(hours=1))


def test_a_new_dataset_is_empty_and_recorded():
    actor = make_actor(Role.EDITOR)
    dataset = create_dataset(actor, name=" tickets ", label_field="label")
    assert (dataset.name, dataset.account) == ("tickets", actor.account)
    assert (dataset.latest_num, dataset.case_count, dataset.draft_changes) == (0, 0, 0)
    assert AuditEvent.objects.get().action == "dataset.create"


@pytest.mark.parametrize("name", ["", "  ", "x" * 3001])
def test_a_name_has_1_to_3000_characters(name):
    with pytest.raises(Invalid) as caught:
        create_dataset(make_actor(), name=name)
    assert dotted(caught.value.problems[0].path) == "name"
    assert not Dataset.objects.exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ANNOTATOR])
def test_who_may_not_edit_changes_nothing(role):
    owner = make_actor()
    dataset = make_dataset(owner)
    case = dataset.draft_cases().first()
    other = make_actor(role, account=owner.account)
    for change in (
        lambda: create_dataset(other, name="x"),
        lambda: update_dataset(other, dataset, name="x"),
        lambda: add_cases(other, dataset, items=[{}]),
        lambda: edit_case(other, case, item={}),
        lambda: remove_case(other, case),
        lambda: freeze_version(other, dataset),
        lambda: archive_dataset(other, dataset),
        lambda: delete_dataset(other, dataset),
    ):
        with pytest.raises(PermissionDenied):
            change()
    before = dict(Dataset.objects.values().get())
    assert before["name"] == dataset.name
    assert before["case_count"] == 3


def test_a_member_of_another_account_may_change_nothing():
    dataset = make_dataset()
    with pytest.raises(PermissionDenied):
        add_cases(make_actor(), dataset, items=[{}])


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
    monkeypatch.setattr("apps.datasets.services.PIECE_ROWS", 2)
    monkeypatch.setattr(fills, "PIECE_ROWS", 2)
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


def test_an_archived_dataset_takes_no_changes_until_it_is_restored():
    actor = make_actor()
    dataset = make_version(actor, name="tickets").dataset
    archive_dataset(actor, dataset)
    with pytest.raises(StateError):
        add_cases(actor, dataset, items=[{}])
    with pytest.raises(ObjectDoesNotExist):
        find_version(actor.account.pk, "tickets")
    restore_dataset(actor, dataset)
    add_cases(actor, dataset, items=[{}])
    assert find_version(actor.account.pk, "tickets").num == 1


def test_find_version_is_the_newest_frozen_one():
    actor = make_actor()
    version = make_version(actor, name="tickets")
    add_cases(actor, version.dataset, items=[{}])
    assert find_version(actor.account.pk, "tickets") == version
    newer = freeze_version(actor, version.dataset)
    assert find_version(actor.account.pk, "tickets") == newer


def test_find_version_knows_neither_foreign_nor_unfrozen_nor_deleted_datasets():
    actor = make_actor()
    make_dataset(actor, name="draft")
    make_version(name="foreign")
    delete_dataset(actor, make_version(actor, name="deleted").dataset)
    for name in ("draft", "foreign", "deleted", "unknown"):
        with pytest.raises(ObjectDoesNotExist):
            find_version(actor.account.pk, name)


def test_find_version_refuses_to_choose_between_equal_names():
    actor = make_actor()
    make_version(actor, name="tickets")
    make_version(actor, name="tickets")
    with pytest.raises(Unfit, match="Several datasets are named 'tickets'"):
        find_version(actor.account.pk, "tickets")


def test_examples_read_the_text_field_or_every_text_but_the_label():
    actor = make_actor()
    items = [
        {"subject": "Late", "n": 4, "body": "Where is it?", "label": "delivery"},
        {"subject": "No label", "body": "", "label": None},
        {"subject": "Number", "label": 7},
    ]
    version = make_version(actor, items=items, label_field="label")
    assert list(examples_of(version)) == [("Late\nWhere is it?", "delivery"), ("Number", "7")]
    version.dataset = update_dataset(actor, version.dataset, text_field="body")
    assert list(examples_of(version)) == [("Where is it?", "delivery"), ("", "7")]


def test_examples_need_a_label_field_at_once():
    with pytest.raises(Unfit) as caught:
        examples_of(make_version())
    assert dotted(caught.value.problems[0].path) == "label_field"


def test_a_deleted_dataset_is_hidden_at_once_and_purged_in_pieces(monkeypatch):
    monkeypatch.setattr(fills, "PIECE_ROWS", 4)
    actor = make_actor()
    version = make_version(actor, items=numbered(10))
    delete_dataset(actor, version.dataset)
    assert not Dataset.objects.present().exists()
    assert TestCase.objects.count() == 10
    assert purge_datasets(pieces=1) == 1
    assert TestCase.objects.count() == 6
    assert purge_datasets(pieces=5) == 2
    assert not Dataset.objects.exists()
    assert purge_datasets() == 0


def test_a_deleted_dataset_takes_no_changes():
    actor = make_actor()
    dataset = make_dataset(actor)
    delete_dataset(actor, dataset)
    for count in (1, fills.PIECE_ROWS + 1):
        with pytest.raises(ObjectDoesNotExist):
            add_cases(actor, dataset, items=[{}] * count)


def test_purging_leaves_other_datasets_alone():
    actor = make_actor()
    kept = make_version(actor, items=numbered(3))
    delete_dataset(actor, make_version(actor, items=numbered(3)).dataset)
    purge_datasets()
    assert items_of(kept) == numbered(3)
    assert Dataset.objects.get() == kept.dataset


def test_a_fill_under_way_keeps_other_writers_out_and_readers_blind():
    actor = make_actor()
    version = make_version(actor, items=numbered(2))
    dataset = version.dataset
    fill = Fill.begin(dataset)
    fill.add(fills.Body('{"n":9}'))
    fill.flush()
    dataset.refresh_from_db()
    assert dataset.draft_cases().count() == 2
    assert items_of(version) == numbered(2)
    with pytest.raises(BeingFilled):
        add_cases(actor, dataset, items=[{}])
    with pytest.raises(BeingFilled):
        freeze_version(actor, dataset)
    with pytest.raises(BeingFilled):
        Fill.begin(dataset)


def test_the_next_writer_clears_what_a_dead_fill_left():
    actor = make_actor()
    dataset = make_version(actor, items=numbered(2)).dataset
    dead = Fill.begin(dataset)
    dead.add(fills.Body('{"n":9}'))
    dead.flush()
    let_lease_run_out(dataset)
    add_cases(actor, dataset, items=numbered(1, start=2))
    assert items_of(freeze_version(actor, dataset)) == numbered(3)
    assert TestCase.objects.count() == 3


def test_a_late_fill_cannot_write_over_its_successor():
    dataset = make_version(items=numbered(2)).dataset
    late = Fill.begin(dataset)
    let_lease_run_out(dataset)
    successor = Fill.begin(dataset)
    late.add(fills.Body("{}"))
    with pytest.raises(fills.FillLost):
        late.flush()
    late.abandon()
    successor.add(fills.Body("{}"))
    successor.flush()
    assert successor.count == 1


def test_the_purge_clears_a_dead_fill_and_leaves_a_live_one():
    dead, live = make_dataset(items=numbered(2)), make_dataset(items=numbered(2))
    for dataset in (dead, live):
        fill = Fill.begin(dataset)
        fill.add(fills.Body("{}"))
        fill.flush()
    let_lease_run_out(dead)
    purge_datasets()
    assert dead.cases.count() == 2
    assert live.cases.count() == 3
    assert Dataset.objects.get(pk=dead.pk).import_token is None
