"""The admin of datasets: imports, exports, versions, and what is deleted."""

import gzip
import io

import openpyxl
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import AuditEvent
from apps.datasets.drafts import add_cases
from apps.datasets.models import Dataset, DatasetVersion, File, TestCase
from apps.datasets.reading import read_cases
from apps.datasets.stored_files import read_file
from apps.strict_json import parse_json
from tests.datasets.admin.pages import act, body_of, import_file, page_of, said
from tests.factories import make_actor, make_dataset, make_version

pytestmark = pytest.mark.django_db


def test_a_file_is_imported_as_a_version(client, editor):
    assert page_of("dataset_import") in client.get(page_of("dataset_changelist")).content.decode()
    assert editor.account.name in client.get(page_of("dataset_import")).content.decode()
    answer = import_file(client, editor, b'{"a":1}\n{"a":2}\n', label_field="a")
    assert answer.status_code == 302
    assert said(answer) == (
        "Imported 2 rows into tickets version 1. The file was read as JSONL, in UTF-8."
    )
    version = DatasetVersion.objects.get()
    assert version.created_by == editor.user
    assert version.dataset.label_field == "a"
    import_file(client, editor, b"a,b\n1,2\n", "t.csv")
    assert list(read_cases(DatasetVersion.objects.get(num=2))) == [({"a": "1", "b": "2"}, None)]


def test_bad_rows_are_shown_by_line_and_nothing_is_imported(client, editor):
    shown = import_file(client, editor, b'{"a":1}\n<script>\n').content.decode()
    assert "line 2:" in shown
    assert "Nothing was imported" in shown
    assert not Dataset.objects.exists()


def test_an_import_that_cannot_be_is_refused_on_its_form(client, editor):
    make_version(editor, name="tickets")
    make_version(editor, name="tickets")
    assert "Several datasets" in import_file(client, editor, b"{}").content.decode()
    shown = import_file(client, editor, b"\x89PNG\r\n\x1a\n\0\0", "t.txt").content.decode()
    assert "it is no text" in shown
    shown = import_file(client, editor, b"a;b,c\n1;2,3\n", "t.txt").content.decode()
    assert "its cells may be parted by commas or by semicolons" in shown
    shown = import_file(client, editor, b"{}", encoding="klingon").content.decode()
    assert "there is no encoding &#x27;klingon&#x27;" in shown


@pytest.mark.parametrize("limit", [10, 1_000_000])
def test_tables_that_are_no_text_are_imported_from_memory_and_from_disk(
    client, editor, settings, limit
):
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = limit
    book, packed = openpyxl.Workbook(), io.BytesIO()
    book.active.append(["a", "n"])
    book.active.append(["x", 1])
    book.save(packed)
    told = "The file was read as the sheet 'Sheet' of a workbook."
    assert told in said(import_file(client, editor, packed.getvalue(), "t.xlsx"))
    assert told[:-1] in said(import_file(client, editor, gzip.compress(packed.getvalue()), "t.gz"))
    pyarrow = pytest.importorskip("pyarrow")
    table, out = pyarrow.table({"a": ["x"], "n": [1]}), io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(table, out)
    assert "read as Parquet." in said(import_file(client, editor, out.getvalue(), "t.parquet"))
    assert len(DatasetVersion.objects.all()) == 3
    for version in DatasetVersion.objects.all():
        assert list(read_cases(version)) == [({"a": "x", "n": 1}, None)]


def test_an_import_says_what_it_took_and_keeps_what_it_skipped(client, editor):
    content = "Frage;Antwort\nGrößte Stadt?;München\nStraße\nHöhe?;8\n".encode("latin-1")
    given = {"name": "fragen", "on_error": "skip"}
    answer = import_file(client, editor, content, "fragen.csv", **given)
    assert answer.status_code == 302
    told = said(answer)
    assert "Imported 2 rows into fragen version 1, skipped 1. The file was read as" in told
    assert "CSV with semicolons, 2 columns, in Windows-1252 (Latin-1), guessed from" in told
    version = DatasetVersion.objects.get()
    assert [item["Antwort"] for item, _ in read_cases(version)] == ["München", "8"]
    kept = File.objects.get(purpose="skipped rows")
    assert f"?id={kept.pk}" in told
    assert (
        kept.filename in client.get(f"{page_of('file_changelist')}?id={kept.pk}").content.decode()
    )
    line = parse_json(b"".join(read_file(kept.pk)).decode())
    assert line == {
        "place": "line 3",
        "reason": "1 cells under a header of 2",
        "row": "Straße",
    }
    foreign = make_actor()
    assert import_file(client, foreign, b"{}").status_code == 200
    assert not Dataset.objects.filter(account=foreign.account).exists()


def test_a_dataset_is_created_changed_frozen_archived_and_restored(client, editor):
    given = {"account": editor.account.pk, "name": "tickets", "label_field": "label"}
    client.post(page_of("dataset_add"), given)
    dataset = Dataset.objects.get()
    assert (dataset.name, dataset.account) == ("tickets", editor.account)
    add_cases(editor, dataset, items=[{"label": 1}])
    page = page_of("dataset_change", dataset.pk)
    client.post(page, {"name": "renamed", "label_field": ""})
    assert "renamed version 1 is frozen" in said(act(client, "dataset", "freeze", dataset))
    assert "has not changed" in said(act(client, "dataset", "freeze", dataset))
    shown = client.get(page).content.decode()
    assert page_of("datasetversion_export", dataset.versions.get().pk) in shown
    act(client, "dataset", "archive", dataset)
    dataset.refresh_from_db()
    assert (dataset.name, dataset.label_field, dataset.latest_num) == ("renamed", "", 1)
    assert dataset.archived_at is not None
    act(client, "dataset", "restore", dataset)
    assert Dataset.objects.get().archived_at is None
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert {"dataset.create", "dataset.change", "dataset.freeze", "dataset.archive"} <= actions


def test_an_export_streams_the_newest_version(client, editor):
    version = make_version(editor, items=[{"a": "ü"}], name='odd "name"/')
    answer = act(client, "dataset", "export", version.dataset)
    assert answer.streaming
    assert answer["Content-Disposition"].startswith("attachment")
    assert body_of(answer) == '{"a":"ü"}\n'
    assert body_of(client.get(page_of("datasetversion_export", version.pk))) == '{"a":"ü"}\n'
    assert body_of(act(client, "datasetversion", "export", version)) == '{"a":"ü"}\n'
    assert "no version" in said(act(client, "dataset", "export", make_dataset(editor)))


def test_deleting_hides_a_dataset_and_loads_none_of_its_cases(client, editor):
    version = make_version(editor, items=[{"n": n} for n in range(20)])
    page = page_of("dataset_delete", version.dataset.pk)
    with CaptureQueriesContext(connection) as queries:
        assert client.get(page).status_code == 200
    assert not any("datasets_testcase" in query["sql"] for query in queries)
    client.post(page, {"post": "yes"})
    assert not Dataset.objects.present().exists()
    assert TestCase.objects.count() == 20
    assert AuditEvent.objects.filter(action="dataset.delete").exists()
    assert client.get(page_of("dataset_change", version.dataset.pk)).status_code == 302


def test_selected_datasets_are_deleted_through_the_service(client, editor):
    datasets = [make_dataset(editor), make_dataset(editor)]
    given = {
        "action": "delete_selected",
        "_selected_action": [str(dataset.pk) for dataset in datasets],
        "post": "yes",
    }
    client.post(page_of("dataset_changelist"), given)
    assert not Dataset.objects.present().exists()
    assert Dataset.objects.count() == 2
