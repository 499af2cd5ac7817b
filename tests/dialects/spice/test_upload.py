"""A spicepod through the admin: upload, preview, confirmation, and what staff may not do."""

import html
import re

import pytest
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone

from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.datasets.models import CHUNK_BYTES, Dataset, DatasetVersion, File
from apps.datasets.reading import find_version, read_cases
from apps.datasets.stored_files import open_file, purge_files, store_file
from apps.evaluations.models import Evaluation
from apps.inference.models import ServedModel
from evalplatform.dialects.spice import downloads, upload
from tests.factories import make_actor, make_endpoint, make_user

pytestmark = pytest.mark.django_db

PAGE = "/admin/spicepod/"
POD = """
datasets: [{name: trivia, from: "file:some/folder/trivia.jsonl", refresh: always}]
models: [{name: judge, from: "openai:big", params: {system_prompt: Rate}}]
evals: [{name: letters, dataset: trivia, scorers: [match, judge, nobody]}]
"""
PLAIN = POD.replace("models: [", "tools: [")
ROWS = {"trivia.jsonl": b'{"input":"a","ideal":"b"}\n'}


@pytest.fixture
def admin(client):
    """Staff with the role admin and a model server, signed in."""
    actor = make_actor(Role.ADMIN, user=make_user(is_staff=True))
    make_endpoint(actor, "http://127.0.0.1:8680/v1", models=["big"])
    client.force_login(actor.user)
    return actor


def preview(client, actor, pod: str = POD, files=ROWS, **given):
    uploads = files.items() if isinstance(files, dict) else files
    data = {
        "account": actor.account.pk,
        "spicepod": SimpleUploadedFile("spicepod.yaml", pod.encode()),
        "data_files": [SimpleUploadedFile(name, content) for name, content in uploads],
    }
    return client.post(PAGE, data | given)


def ticket_in(response) -> str:
    found = re.search(r'name="confirmed" value="([^"]+)"', response.content.decode())
    assert found, response.content.decode()
    return html.unescape(found[1])


def confirm(client, response):
    return client.post(PAGE, {"confirmed": ticket_in(response)})


def text_of(response) -> str:
    return html.unescape(response.content.decode())


def said(response) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def assert_nothing_is_stored() -> None:
    assert not Dataset.objects.exists()
    assert not Evaluation.objects.exists()
    assert not ServedModel.objects.exclude(declared_from="").exists()
    assert not AuditEvent.objects.filter(action="dataset.import").exists()


def test_the_list_of_evaluations_leads_to_the_form(client, admin):
    listed = client.get(reverse("admin:evaluations_evaluation_changelist"))
    assert f'href="{PAGE}"' in text_of(listed)
    assert admin.account.name in text_of(client.get(PAGE))


def test_the_preview_shows_what_would_be_and_stores_nothing(client, admin):
    shown = preview(client, admin, files={**ROWS, "more.csv": b"a\n"})
    assert shown.status_code == 200
    text = text_of(shown)
    assert "1 row, version 1" in text
    assert "'big' at http://127.0.0.1:8680/v1" in text
    assert "datasets[0] 'trivia': refresh is ignored" in text
    assert "there is no scorer 'nobody'" in text
    assert "no dataset reads the data file 'more.csv'" in text
    assert_nothing_is_stored()


def test_what_was_confirmed_is_loaded(client, admin):
    answer = confirm(client, preview(client, admin))
    assert answer.status_code == 302
    assert f"Loaded 3 components into {admin.account}." in said(answer)
    version = find_version(admin.account.pk, "trivia")
    assert version.created_by == admin.user
    assert [item for item, _ in read_cases(version)] == [{"input": "a", "ideal": "b"}]
    assert Evaluation.objects.get().read_scorers() == ["match", "judge", "nobody"]
    assert ServedModel.objects.get(name="judge").system_prompt == "Rate"
    again = preview(client, admin)
    assert "replaced" in text_of(again)
    assert "1 row, version 2" in text_of(again)


def test_what_is_fetched_for_the_preview_is_what_is_loaded(client, admin, monkeypatch):
    asked = []

    def download(url, into, **bounds):
        asked.append((url, bounds["allow_private"]))
        into.write(ROWS["trivia.jsonl"])

    monkeypatch.setattr(downloads, "download", download)
    pod = POD.replace("file:some/folder/trivia.jsonl", "https://data.example/trivia.jsonl")
    shown = preview(client, admin, pod, files={})
    assert "1 row, version 1" in text_of(shown)
    confirm(client, shown)
    assert asked == [("https://data.example/trivia.jsonl", False)]
    assert [item for item, _ in read_cases(DatasetVersion.objects.get())] == [
        {"input": "a", "ideal": "b"}
    ]


def test_a_spicepod_without_data_files_is_loaded(client, admin):
    pod = "evals: [{name: only, dataset: none, scorers: []}]"
    confirm(client, preview(client, admin, pod, files={}))
    assert Evaluation.objects.get().call_name == "only"


def test_what_is_wrong_is_shown_on_the_form_and_nothing_is_stored(client, admin):
    cases = [
        ({"pod": "evals: ["}, "The spicepod cannot be read: line 2"),
        ({"pod": "views: [{name: v, sql: SELECT 1}]"}, "it selects from no dataset"),
        ({"files": {}}, "'some/folder/trivia.jsonl' is not among the uploaded data files"),
        ({"files": {"trivia.jsonl": b"{"}}, "line 1:"),
        ({"files": [*ROWS.items()] * 2}, "Two data files are called 'trivia.jsonl'"),
        ({"pod": POD + "views: [{name: v, sql: SELECT 1}]"}, "it selects from no dataset"),
        (
            {"pod": 'datasets: [{name: a, from: "file:x/t.csv"}, {name: b, from: "file:y/t.csv"}]\n'
                    "evals: [{name: e, dataset: b, scorers: []}]",
             "files": {"t.csv": b"a\n"}},
            "'y/t.csv' and 'x/t.csv' are one upload",
        ),
    ]  # fmt: skip
    for given, reason in cases:
        shown = preview(client, admin, **given)
        assert shown.status_code == 200
        assert reason in text_of(shown)
        assert "errorlist" in text_of(shown)
    assert_nothing_is_stored()


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../etc/passwd", "file.csv", "//etc/passwd", "manage.py", ".."]
)
def test_no_file_of_the_server_is_reached(client, admin, path):
    pod = f'datasets: [{{name: d, from: "file:{path}", params: {{file_format: csv}}}}]'
    assert "is not among the uploaded data files" in text_of(preview(client, admin, pod, files={}))


def test_an_uploaded_name_is_shown_as_text(client, admin):
    pod = "datasets: [{name: '<script>x</script>', from: 'file:t.csv'}]"
    shown = preview(client, admin, pod, files={"t.csv": b"a\n"}).content.decode()
    assert "<script>x" not in shown
    assert "&lt;script&gt;x" in shown


def test_the_account_must_be_one_that_the_user_may_edit(client, admin):
    foreign = make_actor()
    shown = preview(client, foreign)
    assert "Select a valid choice" in text_of(shown)
    viewer = make_actor(Role.VIEWER, user=make_user(is_staff=True))
    client.force_login(viewer.user)
    assert client.get(PAGE).status_code == 403
    assert preview(client, viewer).status_code == 403
    client.logout()
    assert client.get(PAGE).status_code == 302
    member = make_actor(Role.OWNER)
    client.force_login(member.user)
    assert client.get(PAGE).status_code == 302
    assert_nothing_is_stored()


def test_an_editor_loads_datasets_and_evals_but_no_models(client, admin):
    editor = make_actor(Role.EDITOR, account=admin.account, user=make_user(is_staff=True))
    client.force_login(editor.user)
    assert "does not allow" in text_of(preview(client, editor))
    assert_nothing_is_stored()
    confirm(client, preview(client, editor, PLAIN))
    assert Evaluation.objects.get().created_by == editor.user


def test_a_superuser_loads_into_any_account(client, admin):
    client.force_login(make_user(is_staff=True, is_superuser=True))
    confirm(client, preview(client, admin))
    assert Dataset.objects.get().account == admin.account


def test_a_confirmation_is_of_one_user_and_one_hour_and_cannot_be_made_up(
    client, admin, monkeypatch
):
    shown = preview(client, admin)
    other = make_actor(Role.ADMIN, account=admin.account, user=make_user(is_staff=True))
    client.force_login(other.user)
    assert "by the one who uploaded it" in said(confirm(client, shown))
    client.force_login(admin.user)
    answer = client.post(PAGE, {"confirmed": "made:up:ticket"})
    assert answer.status_code == 302
    assert "upload the files again" in said(answer)
    File.objects.update(expires_at=timezone.now())
    assert "there no longer" in said(confirm(client, shown))
    monkeypatch.setattr(upload, "KEPT", -upload.KEPT)
    assert "older than an hour" in said(confirm(client, shown))
    assert_nothing_is_stored()


def test_a_role_that_is_lost_before_the_confirmation_counts(client, admin):
    shown = preview(client, admin)
    admin.user.memberships.update(role=Role.VIEWER)
    assert confirm(client, shown).status_code == 403
    assert_nothing_is_stored()


def test_uploads_are_no_files_of_the_account_and_go_when_they_expire(client, admin):
    preview(client, admin)
    assert set(File.objects.values_list("is_inline", "purpose")) == {(True, "spicepod")}
    File.objects.update(expires_at=timezone.now())
    assert purge_files() == 2
    assert not File.objects.exists()


def test_parquet_is_read_out_of_the_stored_upload(client, admin, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"input": f"row {number}", "ideal": "x" * 100} for number in range(5_000)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    pod = "datasets: [{name: many, from: 'file:t.parquet'}]"
    confirm(
        client, preview(client, admin, pod, {"t.parquet": (tmp_path / "t.parquet").read_bytes()})
    )
    version = find_version(admin.account.pk, "many")
    assert [item for item, _ in read_cases(version)] == rows


def test_a_stored_file_is_opened_as_a_whole(admin):
    data = bytes(range(256)) * (CHUNK_BYTES // 128) + b"end"
    stored = store_file(admin, filename="x", purpose="spicepod", chunks=[data])
    with open_file(stored) as file:
        assert file.read() == data
        assert file.seek(-3, 2) == len(data) - 3
        assert file.read(10) == b"end"
