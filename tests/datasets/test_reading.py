"""Versions are found by name, and their cases read."""

import pytest
from django.core.exceptions import ObjectDoesNotExist

from apps.datasets.drafts import add_cases, freeze_version
from apps.datasets.reading import examples_of, find_version
from apps.datasets.services import (
    delete_dataset,
    update_dataset,
)
from apps.errors import Unfit, dotted
from tests.factories import make_actor, make_dataset, make_version

pytestmark = pytest.mark.django_db


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
