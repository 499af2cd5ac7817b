"""Rows imported all or none, and exported as they came."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase as DatabaseTestCase

from apps import bulk
from apps.accounts.roles import Role
from apps.datasets import bulk_insert, import_export
from apps.datasets.drafts import add_cases, freeze_version
from apps.datasets.import_export import BadRows, export_cases, import_cases, unwrap
from apps.datasets.models import Dataset, DatasetVersion, TestCase
from apps.datasets.reading import read_cases
from apps.datasets.services import archive_dataset, delete_dataset
from apps.datasets.tabular import BadRow, Row, read_jsonl, write_jsonl
from apps.errors import Invalid, StateError, Unfit
from tests.factories import make_actor, make_dataset, make_version

pytestmark = pytest.mark.django_db


def rows_of(*values: dict) -> list[Row]:
    return [Row(line, value) for line, value in enumerate(values, 1)]


def numbered(count: int) -> list[Row]:
    return rows_of(*({"n": number} for number in range(count)))


def numbers_of(version: DatasetVersion) -> list[int]:
    return [item["n"] for item, _ in read_cases(version)]


def test_an_import_makes_the_dataset_and_its_first_version():
    actor = make_actor(Role.EDITOR)
    version = import_cases(actor, into="tickets", rows=numbered(3), label_field="n")
    assert (version.num, version.case_count) == (1, 3)
    assert numbers_of(version) == [0, 1, 2]
    dataset = Dataset.objects.present().get()
    assert (dataset.name, dataset.label_field, dataset.case_count) == ("tickets", "n", 3)
    assert dataset.import_token is None


def test_a_second_import_takes_the_place_of_all_cases_and_leaves_the_first_version():
    actor = make_actor()
    first = import_cases(actor, into="tickets", rows=numbered(3))
    second = import_cases(actor, into="tickets", rows=numbered(2))
    assert (second.dataset, second.num) == (first.dataset, 2)
    assert numbers_of(first) == [0, 1, 2]
    assert numbers_of(second) == [0, 1]
    add_cases(actor, first.dataset, items=[{"n": 7}])
    assert numbers_of(freeze_version(actor, first.dataset)) == [0, 1, 7]


def test_an_import_may_name_the_dataset_itself():
    actor = make_actor()
    dataset = make_dataset(actor, items=[])
    assert import_cases(actor, into=dataset, rows=numbered(1)).dataset == dataset


def test_every_bad_row_is_named_and_nothing_stays():
    actor = make_actor()
    lines = b'{"n":1}\nnot json\n{"n":2}\n[3]\n'
    with pytest.raises(BadRows) as caught:
        import_cases(actor, into="tickets", rows=read_jsonl([lines]))
    assert [row.number for row in caught.value.rows] == [2, 4]
    assert "line 2" in caught.value.messages[0]
    assert not Dataset.objects.exists()
    assert not TestCase.objects.exists()


def test_a_bad_row_behind_stored_pieces_leaves_an_older_dataset_as_it_was(monkeypatch):
    monkeypatch.setattr(bulk_insert, "PIECE_ROWS", 2)
    actor = make_actor()
    version = import_cases(actor, into="tickets", rows=numbered(3))
    before = Dataset.objects.values().get()
    with pytest.raises(BadRows):
        import_cases(actor, into="tickets", rows=[*numbered(7), BadRow(8, "bad")])
    assert Dataset.objects.values().get() == before
    assert TestCase.objects.count() == 3
    assert numbers_of(version) == [0, 1, 2]


def test_no_more_than_a_hundred_bad_rows_are_collected():
    read = 0

    def rows():
        nonlocal read
        for read in range(1, 1000):
            yield BadRow(read, "bad")

    with pytest.raises(BadRows) as caught:
        import_cases(make_actor(), into="tickets", rows=rows())
    assert len(caught.value.rows) == read == 100


def test_an_import_of_nothing_is_refused():
    with pytest.raises(Invalid, match="no rows"):
        import_cases(make_actor(), into="tickets", rows=[])
    assert not Dataset.objects.exists()


def test_a_stream_that_breaks_leaves_nothing(monkeypatch):
    monkeypatch.setattr(bulk_insert, "PIECE_ROWS", 2)

    def rows():
        yield from numbered(5)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        import_cases(make_actor(), into="tickets", rows=rows())
    assert not Dataset.objects.exists()
    assert not TestCase.objects.exists()


def test_nothing_is_seen_before_the_last_row(monkeypatch):
    monkeypatch.setattr(bulk_insert, "PIECE_ROWS", 2)
    actor = make_actor()
    seen = []

    def rows():
        for row in numbered(5):
            yield row
            seen.append((Dataset.objects.present().count(), DatasetVersion.objects.count()))

    import_cases(actor, into="tickets", rows=rows())
    assert set(seen) == {(0, 0)}
    assert Dataset.objects.present().count() == 1


def test_two_imports_of_one_new_name_do_not_make_two_datasets():
    actor = make_actor()

    def rows():
        yield from numbered(1)
        with pytest.raises(StateError):
            import_cases(actor, into="tickets", rows=numbered(1))

    import_cases(actor, into="tickets", rows=rows())
    assert Dataset.objects.count() == 1


def test_the_same_name_may_be_imported_again_after_an_import_died(monkeypatch):
    monkeypatch.setattr(bulk_insert, "PIECE_ROWS", 2)
    actor = make_actor()
    fill = bulk_insert.Fill.begin(import_export._dataset_to_fill(actor, "tickets"))
    for _ in range(3):
        fill.add(bulk_insert.Body("{}"))
    Dataset.objects.update(import_until=timezone.now() - timedelta(hours=1))
    version = import_cases(actor, into="tickets", rows=numbered(3))
    assert Dataset.objects.present().get() == version.dataset
    bulk_insert.purge_datasets()
    assert TestCase.objects.count() == 3


def test_a_dataset_deleted_while_it_is_filled_stays_deleted(monkeypatch):
    monkeypatch.setattr(bulk_insert, "PIECE_ROWS", 2)
    actor = make_actor()
    dataset = make_dataset(actor, items=[])

    def rows():
        yield from numbered(3)
        delete_dataset(actor, dataset)
        yield from numbered(3)

    with pytest.raises(StateError):
        import_cases(actor, into=dataset, rows=rows())
    assert not Dataset.objects.present().exists()


def test_an_import_brings_no_deleted_dataset_back():
    actor = make_actor()
    dataset = make_version(actor).dataset
    delete_dataset(actor, dataset)
    with pytest.raises(ObjectDoesNotExist):
        import_cases(actor, into=dataset, rows=numbered(1))
    with pytest.raises(ObjectDoesNotExist):
        bulk_insert.Fill.begin(dataset)
    assert not Dataset.objects.present().exists()
    assert Dataset.objects.get().import_token is None


def test_changes_that_no_version_holds_are_not_thrown_away():
    actor = make_actor()
    dataset = make_dataset(actor)
    with pytest.raises(StateError, match="freeze"):
        import_cases(actor, into=dataset, rows=numbered(1))
    assert dataset.draft_cases().count() == 3
    freeze_version(actor, dataset)
    assert import_cases(actor, into=dataset, rows=numbered(1)).num == 2


def test_an_archived_dataset_takes_no_import():
    actor = make_actor()
    dataset = make_version(actor).dataset
    archive_dataset(actor, dataset)
    with pytest.raises(StateError, match="archived"):
        import_cases(actor, into=dataset, rows=numbered(1))
    assert Dataset.objects.get().import_token is None


def test_an_import_into_one_of_two_equal_names_must_say_which():
    actor = make_actor()
    make_version(actor, name="tickets")
    make_version(actor, name="tickets")
    with pytest.raises(Unfit, match="Several"):
        import_cases(actor, into="tickets", rows=numbered(1))


def test_a_viewer_imports_nothing_and_a_stranger_not_here():
    owner = make_actor()
    dataset = make_dataset(owner, items=[])
    with pytest.raises(PermissionDenied):
        import_cases(make_actor(Role.VIEWER), into="tickets", rows=numbered(1))
    with pytest.raises(PermissionDenied):
        import_cases(make_actor(), into=dataset, rows=numbered(1))
    assert list(Dataset.objects.all()) == [dataset]


def test_a_named_label_field_must_be_in_every_row():
    rows = rows_of({"text": "a", "label": "x"}, {"text": "b"}, {"label": None})
    with pytest.raises(BadRows) as caught:
        import_cases(make_actor(), into="t", rows=rows, label_field="label", text_field="text")
    assert [row.number for row in caught.value.rows] == [2, 3]
    assert "'label'" in caught.value.rows[0].message


@pytest.mark.parametrize(
    ("row", "item", "sample"),
    [
        ({"item": {"a": 1}, "sample": {"output_text": "x"}}, {"a": 1}, {"output_text": "x"}),
        ({"item": {"a": 1}, "sample": None}, {"a": 1}, None),
        ({"item": {"a": 1}}, {"a": 1}, None),
        ({"item": "a"}, {"item": "a"}, None),
        ({"item": {}, "sample": "x"}, {"item": {}, "sample": "x"}, None),
        ({"item": {}, "other": 1}, {"item": {}, "other": 1}, None),
        ({"sample": {}}, {"sample": {}}, None),
        ({}, {}, None),
    ],
)
def test_a_row_is_unwrapped_only_when_it_can_be_nothing_else(row, item, sample):
    assert unwrap(row) == (item, sample)


def test_flat_takes_every_object_for_an_item():
    row = {"item": {"a": 1}, "sample": {"b": 2}}
    version = import_cases(make_actor(), into="t", rows=rows_of(row), flat=True)
    assert list(read_cases(version)) == [(row, None)]


objects = st.dictionaries(
    st.sampled_from(["item", "sample", "a"]),
    st.recursive(
        st.none() | st.integers() | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        lambda inner: st.dictionaries(st.sampled_from(["item", "sample", "a"]), inner),
        max_leaves=5,
    ),
)


class ThereAndBack(DatabaseTestCase):
    __test__ = True

    @given(st.lists(objects, min_size=1), st.booleans())
    def test_what_is_exported_imports_to_the_same_cases(self, values, flat):
        actor = make_actor()
        version = import_cases(actor, into="t", rows=rows_of(*values), flat=flat)
        again = import_cases(
            actor, into="t again", rows=read_jsonl(write_jsonl(export_cases(version)))
        )
        assert list(read_cases(again)) == list(read_cases(version))


def test_an_export_reads_page_by_page(monkeypatch):
    monkeypatch.setattr("apps.datasets.reading.CASES_AT_ONCE", 2)
    version = import_cases(make_actor(), into="t", rows=numbered(5))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert list(export_cases(version)) == [{"n": number} for number in range(5)]
    assert len(queries) == 3


def test_no_transaction_writes_more_than_a_piece(monkeypatch):
    monkeypatch.setattr(bulk_insert, "PIECE_ROWS", 3)
    pieces = []
    real = bulk_insert.insert_bodies
    monkeypatch.setattr(
        bulk_insert,
        "insert_bodies",
        lambda dataset, position, bodies: (
            pieces.append(len(bodies)),
            real(dataset, position, bodies),
        ),
    )
    import_cases(make_actor(), into="t", rows=numbered(8))
    assert pieces == [3, 3, 2]


def test_large_rows_make_small_pieces(monkeypatch):
    sizes = []

    def insert_rows(model: Any, columns: Any, rows: Any) -> None:
        sizes.append(len(rows))
        bulk.insert_rows(model, columns, rows)

    monkeypatch.setattr(bulk_insert, "PIECE_CHARACTERS", 100)
    monkeypatch.setattr(bulk_insert, "insert_rows", insert_rows)
    rows = rows_of(*({"n": number, "text": "x" * 60} for number in range(4)))
    version = import_cases(make_actor(), into="t", rows=rows)
    assert sizes == [2, 2]
    assert numbers_of(version) == [0, 1, 2, 3]
