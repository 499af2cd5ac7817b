"""Fills of datasets: seen only when whole, alone with their dataset, and cleared when they died."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.datasets import bulk_insert
from apps.datasets.bulk_insert import BeingFilled, Fill, purge_datasets
from apps.datasets.drafts import add_cases, freeze_version
from apps.datasets.models import Dataset, DatasetVersion, TestCase
from apps.datasets.reading import read_cases
from apps.datasets.services import (
    delete_dataset,
)
from tests.factories import make_actor, make_dataset, make_version

pytestmark = pytest.mark.django_db


def items_of(version: DatasetVersion) -> list:
    return [item for item, _ in read_cases(version)]


def numbered(count: int, start: int = 0) -> list[dict]:
    return [{"n": number} for number in range(start, start + count)]


def let_lease_run_out(dataset: Dataset) -> None:
    Dataset.objects.filter(pk=dataset.pk).update(import_until=timezone.now() - timedelta(hours=1))


def test_a_deleted_dataset_is_hidden_at_once_and_purged_in_pieces(monkeypatch):
    monkeypatch.setattr(bulk_insert, "PIECE_ROWS", 4)
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
    fill.add(bulk_insert.Body('{"n":9}'))
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
    dead.add(bulk_insert.Body('{"n":9}'))
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
    late.add(bulk_insert.Body("{}"))
    with pytest.raises(bulk_insert.FillLost):
        late.flush()
    late.abandon()
    successor.add(bulk_insert.Body("{}"))
    successor.flush()
    assert successor.count == 1


def test_the_purge_clears_a_dead_fill_and_leaves_a_live_one():
    dead, live = make_dataset(items=numbered(2)), make_dataset(items=numbered(2))
    for dataset in (dead, live):
        fill = Fill.begin(dataset)
        fill.add(bulk_insert.Body("{}"))
        fill.flush()
    let_lease_run_out(dead)
    purge_datasets()
    assert dead.cases.count() == 2
    assert live.cases.count() == 3
    assert Dataset.objects.get(pk=dead.pk).import_token is None
