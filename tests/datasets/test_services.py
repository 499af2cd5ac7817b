"""Datasets, their drafts and their frozen versions."""

import pytest
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied

from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.datasets import bulk_insert
from apps.datasets.drafts import add_cases, edit_case, freeze_version, remove_case
from apps.datasets.models import Dataset
from apps.datasets.reading import find_version
from apps.datasets.services import (
    archive_dataset,
    create_dataset,
    delete_dataset,
    restore_dataset,
    update_dataset,
)
from apps.errors import Invalid, StateError, dotted
from tests.factories import make_actor, make_dataset, make_version

pytestmark = pytest.mark.django_db


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


def test_a_deleted_dataset_takes_no_changes():
    actor = make_actor()
    dataset = make_dataset(actor)
    delete_dataset(actor, dataset)
    for count in (1, bulk_insert.PIECE_ROWS + 1):
        with pytest.raises(ObjectDoesNotExist):
            add_cases(actor, dataset, items=[{}] * count)
