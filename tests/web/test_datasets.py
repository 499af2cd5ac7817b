"""The list of datasets, and a dataset's page."""

import html
import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from apps.accounts.roles import Role
from apps.datasets.drafts import add_cases, freeze_version
from apps.datasets.models import Dataset, File
from apps.datasets.services import delete_dataset
from tests.factories import make_actor, make_dataset, make_version
from tests.web.pages import text_of
from tests.web.worked import browser_of

pytestmark = pytest.mark.django_db


def url_of(dataset: Dataset) -> str:
    return reverse("web:dataset", args=[dataset.pk])


def test_the_list_has_names_versions_and_counts() -> None:
    actor = make_actor()
    make_version(actor, name="Tickets", label_field="label", description="As they came.")
    make_dataset(actor, name="Drafted")
    make_dataset(make_actor(), name="Not yours")
    delete_dataset(actor, make_dataset(actor, name="Deleted"))
    page = text_of(browser_of(actor).get("/app/datasets/"))
    assert "Tickets As they came. v1 3 label" in page
    assert "Drafted draft 3" in page
    assert "Not yours" not in page
    assert "Deleted" not in page


def test_an_empty_list_says_how_to_import() -> None:
    actor = make_actor()
    page = text_of(browser_of(actor).get("/app/datasets/"))
    assert "No datasets yet" in page
    assert f'manage.py import_dataset rows.jsonl --account "{actor.account.name}"' in page


def test_a_page_shows_the_cases_of_the_newest_version_and_not_of_the_draft() -> None:
    actor = make_actor()
    dataset = make_version(actor, name="Tickets").dataset
    add_cases(actor, dataset, items=[{"text": "later"}])
    browser = browser_of(actor)
    page = text_of(browser.get(url_of(dataset)))
    assert "Cases of version 1 3" in page
    assert "0 I was charged twice billing" in page
    assert "later" not in page
    freeze_version(actor, dataset)
    assert "3 later" in text_of(browser.get(url_of(dataset)))


def test_the_pages_of_cases_show_each_once_at_the_same_cost(django_assert_num_queries) -> None:
    actor = make_actor()
    items = [{"text": f"case {n}"} for n in range(60)]
    dataset = make_version(actor, items=items).dataset
    browser = browser_of(actor)
    browser.get(url_of(dataset))
    seen, query = [], ""
    while True:
        with django_assert_num_queries(8):
            answer = browser.get(url_of(dataset) + query)
        seen += [line.cells[0][1] for line in answer.context["cases"]]
        query = answer.context["page"].next
        if not query:
            break
    assert seen == [item["text"] for item in items]


def test_a_dataset_without_a_version_has_a_page() -> None:
    actor = make_actor()
    assert "Nothing frozen yet" in text_of(browser_of(actor).get(url_of(make_dataset(actor))))


def test_cases_are_text() -> None:
    actor = make_actor()
    dataset = make_version(actor, items=[{"<script>": "<script>alert(1)</script>"}]).dataset
    page = browser_of(actor).get(url_of(dataset)).content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_another_accounts_dataset_is_not_found() -> None:
    assert browser_of(make_actor()).get(url_of(make_dataset())).status_code == 404


def send(browser: Any, content: bytes, filename: str = "fragen.csv", **given: str) -> Any:
    data = {"name": "Fragen", "file": SimpleUploadedFile(filename, content), **given}
    return browser.post("/app/datasets/import/", data)


def test_a_file_is_imported_on_a_page_which_says_how_it_was_read() -> None:
    actor = make_actor()
    browser = browser_of(actor)
    assert "Import a file" in text_of(browser.get("/app/datasets/"))
    assert "Import a dataset" in text_of(browser.get("/app/datasets/import/?name=Fragen"))
    answer = send(browser, "Frage;Antwort\nGrößte Stadt?;München\n".encode("latin-1"))
    dataset = Dataset.objects.get()
    assert (answer.status_code, answer["location"]) == (302, url_of(dataset))
    page = html.unescape(text_of(browser.get(url_of(dataset))))
    assert "Imported 1 row into Fragen version 1. The file was read as CSV with semicolons" in page
    assert "in Windows-1252 (Latin-1), guessed from 'Größte'." in page
    assert "Größte Stadt? München" in page


@pytest.mark.parametrize(
    ("content", "given", "words"),
    [
        (b"a;b,c\n1;2,3\n", {}, "its cells may be parted by commas or by semicolons"),
        (b"a,b\n1,2\n", {"encoding": "klingon"}, "there is no encoding 'klingon'"),
        (b"a,b\n1\n", {}, "Nothing was imported: these rows are bad. line 2: 1 cells under"),
        (b"a,b\n", {}, "There are no rows to import."),
        (b"PK\x03\x04 nothing", {}, "not readable as a workbook"),
    ],
)
def test_what_cannot_be_imported_is_told_on_the_page(
    content: bytes, given: dict[str, str], words: str
) -> None:
    answer = send(browser_of(make_actor()), content, **given)
    assert answer.status_code == 422
    assert words in html.unescape(text_of(answer))
    assert not Dataset.objects.exists()


def test_skipped_rows_can_be_fetched_by_their_account_alone() -> None:
    actor = make_actor()
    browser = browser_of(actor)
    send(browser, b"a,b\n1,2\n3\n4\n", on_error="skip")
    url = reverse("web:skipped_rows", args=[File.objects.get().pk])
    assert url in browser.get(url_of(Dataset.objects.get())).content.decode()
    lines = b"".join(browser.get(url).streaming_content).splitlines()
    assert [json.loads(line)["place"] for line in lines] == ["line 3", "line 4"]
    assert browser_of(make_actor()).get(url).status_code == 404


def test_a_viewer_is_not_offered_to_import_and_may_not() -> None:
    browser = browser_of(make_actor(Role.VIEWER))
    assert "Import a file" not in text_of(browser.get("/app/datasets/"))
    assert browser.get("/app/datasets/import/").status_code == 403
    assert send(browser, b"a\n1\n").status_code == 403
    assert not Dataset.objects.exists()
