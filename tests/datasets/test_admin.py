"""The admin of datasets, cases and files: import, export and edits, and what staff may not do."""

import gzip
import io

import openpyxl
import pytest
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.datasets.admin import cases
from apps.datasets.drafts import add_cases, edit_case
from apps.datasets.models import Dataset, DatasetVersion, File, TestCase
from apps.datasets.reading import read_cases
from apps.datasets.services import archive_dataset
from apps.datasets.stored_files import read_file, store_file
from apps.strict_json import parse_json
from tests.factories import make_account, make_actor, make_dataset, make_user, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def editor(client):
    """Staff with the role editor, signed in."""
    actor = make_actor(Role.EDITOR, user=make_user(is_staff=True))
    client.force_login(actor.user)
    return actor


def page_of(name: str, *args) -> str:
    return reverse(f"admin:datasets_{name}", args=args)


def act(client, name: str, action: str, *rows):
    given = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    return client.post(page_of(f"{name}_changelist"), given)


def said(response) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def body_of(response) -> str:
    return b"".join(response.streaming_content).decode()


def import_file(client, actor, content: bytes, filename: str = "t.jsonl", **given):
    file = SimpleUploadedFile(filename, content)
    data = {"account": actor.account.pk, "name": "tickets", "file": file} | given
    return client.post(page_of("dataset_import"), data)


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


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ANNOTATOR])
def test_who_may_only_read_imports_and_changes_nothing_and_may_export(client, role):
    actor = make_actor(role, user=make_user(is_staff=True))
    version = make_version(make_actor(account=actor.account))
    client.force_login(actor.user)
    assert import_file(client, actor, b"{}").status_code == 403
    assert client.get(page_of("dataset_add")).status_code == 403
    case = version.cases().first()
    for name, row in (("dataset", version.dataset), ("testcase", case)):
        assert client.get(page_of(f"{name}_change", row.pk)).status_code == 200
        assert client.post(page_of(f"{name}_change", row.pk), {}).status_code == 403
        assert client.post(page_of(f"{name}_delete", row.pk), {"post": "yes"}).status_code == 403
    act(client, "dataset", "archive", version.dataset)
    assert Dataset.objects.get().archived_at is None
    assert len(body_of(act(client, "dataset", "export", version.dataset)).splitlines()) == 3


def test_rows_of_other_accounts_are_nowhere(client, editor):
    version = make_version(name="foreign", items=[{"text": "not for you"}])
    owner = make_actor(account=make_account())
    store_file(owner, filename="foreign.txt", purpose="evals", chunks=[b"x"])
    for name in ("dataset", "datasetversion", "file"):
        assert "foreign" not in client.get(page_of(f"{name}_changelist")).content.decode()
    shown = client.get(page_of("testcase_changelist"), {"dataset": version.dataset.pk})
    assert "not for you" not in shown.content.decode()
    export = page_of("datasetversion_export", version.pk)
    assert client.get(export).status_code == 404
    for name, row in (("dataset", version.dataset), ("testcase", version.cases().get())):
        assert client.get(page_of(f"{name}_change", row.pk)).status_code == 302
        client.post(page_of(f"{name}_delete", row.pk), {"post": "yes"})
        act(client, name, "delete_selected", row)
    assert Dataset.objects.present().count() == 1
    assert version.dataset.draft_cases().count() == 1


def test_a_stronger_role_elsewhere_does_not_count_here(client, editor):
    here = make_actor(Role.VIEWER, user=editor.user).account
    dataset = make_dataset(make_actor(account=here))
    answer = act(client, "dataset", "archive", dataset)
    assert "role is too weak" in said(answer)
    assert Dataset.objects.get().archived_at is None


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


def cases_shown(client, dataset, **given) -> list[str]:
    answer = client.get(page_of("testcase_changelist"), {"dataset": str(dataset.pk)} | given)
    assert answer.status_code == 200
    return [case.preview for case in answer.context["cl"].result_list]


def test_cases_are_listed_of_one_dataset_in_its_draft_or_a_version(client, editor):
    version = make_version(editor, items=[{"n": 0}, {"n": 1}])
    edit_case(editor, version.cases().first(), item={"n": "new"})
    make_dataset(editor)
    answer = client.get(page_of("testcase_changelist"))
    assert "Choose a dataset" in said(answer)
    assert not answer.context["cl"].result_list
    assert cases_shown(client, version.dataset) == ['{"n":"new"}', '{"n":1}']
    assert cases_shown(client, version.dataset, version="1") == ['{"n":0}', '{"n":1}']
    assert cases_shown(client, version.dataset, version="7") == []


def test_cases_are_searched_by_text_position_and_id(client, editor, monkeypatch):
    dataset = make_dataset(editor, items=[{"text": f"row {n}"} for n in range(6)])
    assert cases_shown(client, dataset, q="ROW 3") == ['{"text":"row 3"}']
    assert cases_shown(client, dataset, q="4") == ['{"text":"row 4"}']
    case = dataset.draft_cases()[2]
    assert cases_shown(client, dataset, q=str(case.key)) == ['{"text":"row 2"}']
    monkeypatch.setattr(cases, "SEARCHED_CASES", 2)
    assert cases_shown(client, dataset, q="row") == ['{"text":"row 0"}', '{"text":"row 1"}']


def test_a_case_is_edited_as_json_and_frozen_versions_keep_theirs(client, editor):
    version = make_version(editor, items=[{"b": 1, "a": [2]}])
    case = version.cases().get()
    page = page_of("testcase_change", case.pk)
    assert "&quot;b&quot;: 1" in client.get(page).content.decode()
    given = {"item": '{"a": "ü",\n "b": 2}', "sample": '{"output_text": "x"}'}
    assert client.post(page, given).status_code == 302
    (edited,) = version.dataset.__class__.objects.get().draft_cases()
    assert (edited.item, edited.sample) == ('{"a":"ü","b":2}', '{"output_text":"x"}')
    assert list(read_cases(version)) == [({"b": 1, "a": [2]}, None)]
    # The body that was replaced can be read and no longer changed.
    assert client.get(page).status_code == 200
    assert client.post(page, given).status_code == 403


@pytest.mark.parametrize("text", ["", "oops", "[1]", '{"a": NaN}', "1", '{"a": 1e999}'])
def test_a_case_takes_nothing_but_a_json_object(client, editor, text):
    case = make_dataset(editor, items=[{"n": 0}]).draft_cases().get()
    page = page_of("testcase_change", case.pk)
    answer = client.post(page, {"item": text, "sample": ""})
    assert answer.status_code == 200
    assert answer.context["adminform"].errors
    answer = client.post(page, {"item": '{"n": 1}', "sample": text})
    assert answer.status_code == (200 if text else 302)
    case.refresh_from_db()
    assert parse_json(case.item) == ({"n": 0} if text else {"n": 1})


def test_a_case_is_removed_from_the_draft_alone(client, editor):
    version = make_version(editor, items=[{"n": 0}, {"n": 1}])
    client.post(page_of("testcase_delete", version.cases().first().pk), {"post": "yes"})
    assert cases_shown(client, version.dataset) == ['{"n":1}']
    assert version.cases().count() == 2
    assert AuditEvent.objects.filter(action="case.remove").exists()


def test_an_edit_that_the_service_refuses_is_said(client, editor):
    dataset = make_dataset(editor, items=[{"n": 0}])
    archive_dataset(editor, dataset)
    page = page_of("testcase_change", dataset.draft_cases().get().pk)
    answer = client.post(page, {"item": "{}", "sample": ""})
    assert "is archived" in said(answer)
    assert dataset.draft_cases().get().item == '{"n":0}'


def test_a_file_is_downloaded_and_deleted(client, editor):
    file = store_file(editor, filename="ü.bin", purpose="evals", chunks=[b"\x00\xff" * 700_000])
    assert "ü.bin" in client.get(page_of("file_changelist")).content.decode()
    answer = act(client, "file", "download", file)
    assert b"".join(answer.streaming_content) == b"\x00\xff" * 700_000
    assert client.get(page_of("file_change", file.pk)).status_code == 200
    client.post(page_of("file_delete", file.pk), {"post": "yes"})
    assert not File.objects.present().exists()
    assert File.objects.get().chunks.exists()
    assert not client.get(page_of("file_changelist")).context["cl"].result_list


def test_a_list_of_many_takes_as_many_queries_as_one_of_few(client, editor):
    def make_more() -> None:
        version = make_version(editor)
        add_cases(editor, version.dataset, items=[{"n": 1}])
        store_file(editor, filename="f", purpose="evals", chunks=[b"x"])

    def queries_of(name: str, **given) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(page_of(f"{name}_changelist"), given).status_code == 200
        return len(queries)

    make_more()
    dataset = Dataset.objects.get()
    names = ("dataset", "datasetversion", "file")
    few = [queries_of(name) for name in names]
    few_cases = queries_of("testcase", dataset=dataset.pk)
    for _ in range(4):
        make_more()
    add_cases(editor, dataset, items=[{"n": n} for n in range(20)])
    assert [queries_of(name) for name in names] == few
    assert queries_of("testcase", dataset=dataset.pk) == few_cases


def test_a_superuser_works_in_every_account(client):
    root = make_user(is_staff=True, is_superuser=True)
    client.force_login(root)
    dataset = make_dataset()
    assert dataset.name in client.get(page_of("dataset_changelist")).content.decode()
    act(client, "dataset", "freeze", dataset)
    assert DatasetVersion.objects.get().created_by == root
    chosen = {"account": str(dataset.account_id)}
    assert dataset.name in client.get(page_of("dataset_changelist"), chosen).content.decode()
    other = {"account": str(make_account().pk)}
    shown = client.get(page_of("dataset_changelist"), other).content.decode()
    assert dataset.name not in shown
