"""The list of evaluations, and an evaluation's page."""

import pytest
from django.urls import reverse

from apps.evaluations.models import Evaluation
from apps.evaluations.services.evaluations import NewCriterion, create_evaluation
from tests.factories import make_actor
from tests.web.pages import names, text_of
from tests.web.worked import browser_of, make_evaluation, make_run

pytestmark = pytest.mark.django_db


def url_of(evaluation: Evaluation) -> str:
    return reverse("web:evaluation", args=[evaluation.pk])


def test_a_line_has_the_criteria_and_the_newest_run() -> None:
    actor = make_actor()
    evaluation = make_evaluation(actor, criteria=5, name="Rivers")
    make_run(actor, ["ppppp"], evaluation=evaluation, name="older")
    make_run(actor, ["ppppp", "fpppp"], evaluation=evaluation, name="newer")
    make_evaluation(make_actor(), name="Not yours")
    page = text_of(browser_of(actor).get("/app/evaluations/"))
    assert "Rivers same 1 string_check same 2" in page
    assert "and 1 more newer Completed 50.0%" in page
    assert "older" not in page
    assert "Not yours" not in page


def test_the_queries_of_the_list_do_not_grow_with_it(django_assert_num_queries) -> None:
    actor = make_actor()
    browser = browser_of(actor)
    for count in (1, 6):
        for _ in range(count):
            make_run(actor, ["pf"], evaluation=make_evaluation(actor, criteria=2))
        browser.get("/app/evaluations/")  # what never changes is kept from then on
        with django_assert_num_queries(8):
            browser.get("/app/evaluations/")


def test_the_pages_of_the_list_show_each_once() -> None:
    actor = make_actor()
    for number in range(60):
        make_evaluation(actor, name=f"{number}")
    browser = browser_of(actor)
    first = browser.get("/app/evaluations/")
    second = browser.get("/app/evaluations/" + first.context["page"].next)
    shown = [line.evaluation.name for one in (first, second) for line in one.context["lines"]]
    assert shown == [str(number) for number in reversed(range(60))]
    assert second.context["page"].next == ""


def test_an_evaluations_page_has_criteria_schema_metadata_and_runs() -> None:
    actor = make_actor()
    settings = {"input": "{{ item.a }}", "reference": "x", "operation": "eq"}
    evaluation = create_evaluation(
        actor,
        name="Rivers",
        criteria=[NewCriterion("string_check", "is x", settings)],
        metadata={"team": "support"},
        item_schema={"type": "object", "properties": {"a": {"type": "string"}}},
    )
    page = text_of(browser_of(actor).get(url_of(evaluation)))
    assert "is x string_check input {{ item.a }} reference x operation eq" in page
    assert "team support" in page
    assert "&quot;properties&quot;" in page
    assert "No runs yet" in page


def test_the_runs_of_an_evaluation_are_its_own_and_refresh_as_such() -> None:
    actor = make_actor()
    evaluation = make_evaluation(actor)
    make_run(actor, evaluation=evaluation, name="this")
    make_run(actor, name="another")
    browser = browser_of(actor)
    answer = browser.get(url_of(evaluation))
    assert names(answer) == ["this"]
    assert names(browser.get(answer.context["live_url"])) == ["this"]


def test_another_accounts_evaluation_is_not_found() -> None:
    evaluation = make_evaluation(make_actor())
    assert browser_of(make_actor()).get(url_of(evaluation)).status_code == 404
