"""What staff may do in the admin of datasets, cases and files, and in how many queries."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.roles import Role
from apps.datasets.drafts import add_cases
from apps.datasets.models import Dataset, DatasetVersion
from apps.datasets.stored_files import store_file
from tests.datasets.admin.pages import act, body_of, import_file, page_of, said
from tests.factories import make_account, make_actor, make_dataset, make_user, make_version

pytestmark = pytest.mark.django_db


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
