"""The admin of cases: lists, searches and edits."""

import pytest

from apps.accounts.models import AuditEvent
from apps.datasets.admin import cases
from apps.datasets.drafts import edit_case
from apps.datasets.reading import read_cases
from apps.datasets.services import archive_dataset
from apps.strict_json import parse_json
from tests.datasets.admin.pages import page_of, said
from tests.factories import make_dataset, make_version

pytestmark = pytest.mark.django_db


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
