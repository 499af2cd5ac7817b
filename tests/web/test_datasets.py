"""The list of datasets, and a dataset's page."""

import pytest
from django.urls import reverse

from apps.datasets.drafts import add_cases, freeze_version
from apps.datasets.models import Dataset
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
