"""The pages on which criteria are tried, kept, and a run's answers graded by them."""

import json
from typing import Any

import pytest
from django.urls import reverse

from apps.accounts.roles import Role
from apps.evaluations.forms import COUNTS, DATASET, PASTE, RUN
from apps.evaluations.models import Run
from apps.evaluations.services.runs import delete_run
from tests.evaluations.engine.workers import work_until_idle
from tests.factories import (
    ask,
    make_actor,
    make_endpoint,
    make_evaluation,
    make_run,
    make_version,
)
from tests.model_server import running
from tests.web.pages import text_of
from tests.web.worked import browser_of

pytestmark = pytest.mark.django_db(transaction=True)

CRITERION = {
    "type": "string_check",
    "name": "never so",
    "input": "{{ sample.output_text }}",
    "reference": "<never>",
    "operation": "eq",
}


@pytest.fixture
def actor():
    return make_actor()


@pytest.fixture
def run(actor):
    run = make_run(actor, source=7, target=ask())
    work_until_idle()
    run.refresh_from_db()
    return run


def regrade(run: Run) -> str:
    return reverse("web:regrade_run", args=[run.pk])


def change(evaluation: Any) -> str:
    return reverse("web:change_criteria", args=[evaluation.pk])


def sent(action: str, *criteria: Any, **fields: Any) -> dict[str, Any]:
    text = json.dumps(criteria or [CRITERION])
    return {"action": action, "criteria": text, "count": COUNTS[0], **fields}


def test_a_runs_page_leads_to_grading_it_again_and_both_link_to_each_other(actor, run):
    browser = browser_of(actor)
    page = reverse("web:run", args=[run.pk])
    assert regrade(run) in browser.get(page).content.decode()
    form = browser.get(regrade(run))
    assert '"name": "same"' in form.context["form"]["criteria"].value()
    answer = browser.post(regrade(run), sent("start"), follow=True)
    new = Run.objects.get(answers_of=run)
    assert answer.redirect_chain == [(reverse("web:run", args=[new.pk]), 302)]
    assert f"Grades the answers of {run.name}" in text_of(answer)
    assert f"Graded again by {new.name}" in text_of(browser.get(page))
    work_until_idle()
    shown = text_of(browser.get(reverse("web:run", args=[new.pk])))
    assert "never so" in shown
    assert "Criteria version 2" in shown
    delete_run(actor, run)
    assert run.name not in text_of(browser.get(reverse("web:run", args=[new.pk]))).replace(
        new.name, ""
    )


def test_trying_shows_marks_and_stores_nothing(actor, run):
    answer = browser_of(actor).post(regrade(run), sent("try"))
    assert answer.status_code == 200
    trial = answer.context["trial"]
    assert [(row.number, row.state) for row in trial.rows] == [(n, "failed") for n in range(5)]
    assert [one.name for one in trial.rows[0].marks] == ["never so"]
    shown = text_of(answer)
    assert "What they say of 5 rows" in shown
    assert "label 3" in shown
    assert "No model was asked." in shown
    assert Run.objects.get() == run
    assert run.evaluation.criteria.count() == 1


def test_what_judges_took_is_shown(actor):
    judge = 'answer:{"steps": [], "result": "good"}'
    criterion = {
        "type": "label_model",
        "name": "judged",
        "model": judge,
        "input": [{"role": "user", "content": "Judge {{ item.label }}"}],
        "labels": ["good", "bad"],
        "passing_labels": ["good"],
    }
    with running() as server:
        make_endpoint(actor, server.base_url, models=[judge])
        run = make_run(actor)
        work_until_idle()
        answer = browser_of(actor).post(regrade(run), sent("try", criterion))
    assert [row.state for row in answer.context["trial"].rows] == ["passed"] * 5
    [usage] = answer.context["trial"].usage
    assert (usage.model, usage.calls) == (judge, 5)
    assert "5 calls" in text_of(answer)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "This is not JSON"),
        ("{}", "Criteria are an array"),
        ('[{"type": "odd", "name": "x"}]', "criteria[0].type"),
        ("[]", "no criterion to grade by"),
        ("", "This field is required"),
        (
            json.dumps(
                [
                    {
                        **CRITERION,
                        "type": "label_model",
                        "model": "unheard-of",
                        "input": [{"role": "user", "content": "x"}],
                        "labels": ["a"],
                        "passing_labels": ["a"],
                    }
                ]
            ),
            "criteria[0].model: The model &#x27;unheard-of&#x27; does not exist",
        ),
    ],
)
@pytest.mark.parametrize("action", ["try", "start"])
def test_criteria_that_cannot_be_used_are_refused_at_their_field(actor, run, text, message, action):
    answer = browser_of(actor).post(regrade(run), {**sent(action), "criteria": text})
    assert answer.status_code == 422
    assert answer.context["form"].errors.keys() == {"criteria"}
    assert message in answer.content.decode()
    assert answer.context["form"]["criteria"].value() == text
    assert Run.objects.get() == run


def test_a_run_that_is_going_leads_back_with_the_reason(actor):
    run = make_run(actor)
    answer = browser_of(actor).get(regrade(run), follow=True)
    assert "The run is still going" in text_of(answer)
    assert regrade(run) not in answer.content.decode()


def test_who_may_only_read_neither_sees_nor_may_change_anything(actor, run):
    browser = browser_of(make_actor(Role.VIEWER, account=actor.account))
    for page in (
        reverse("web:run", args=[run.pk]),
        reverse("web:evaluation", args=[run.evaluation_id]),
    ):
        shown = browser.get(page).content.decode()
        assert regrade(run) not in shown
        assert change(run.evaluation) not in shown
    for url in (regrade(run), change(run.evaluation)):
        assert browser.get(url).status_code == 403
        for action in ("try", "start", "save"):
            assert browser.post(url, sent(action)).status_code == 403
    assert Run.objects.get() == run


def test_criteria_are_tried_on_a_run_a_dataset_or_rows_and_then_kept(actor, run):
    browser, url = browser_of(actor), change(run.evaluation)
    version = make_version(actor)
    assert url in browser.get(reverse("web:evaluation", args=[run.evaluation_id])).content.decode()
    rows = '{"item": {}, "sample": {"output_text": "<never>"}}\n\n{"item": {}}'
    for fields, states in (
        ({"rows_from": RUN, "run": run.pk}, ["failed"] * 5),
        ({"rows_from": DATASET, "dataset": version.pk}, ["failed"] * 3),
        ({"rows_from": PASTE, "rows": rows}, ["passed", "failed"]),
        ({"rows_from": PASTE, "rows": f"[{rows.replace(chr(10) * 2, ',')}]"}, ["passed", "failed"]),
    ):
        answer = browser.post(url, sent("try", **fields))
        assert [row.state for row in answer.context["trial"].rows] == states, answer.content
    answer = browser.post(url, sent("save", rows_from=PASTE), follow=True)
    assert "The criteria of version 2 are in force." in text_of(answer)
    assert "never so" in text_of(answer)
    run.refresh_from_db()
    assert run.criteria_version == 1
    assert "same" in text_of(browser.get(reverse("web:run", args=[run.pk])))
    assert "never so" in text_of(browser.get("/app/evaluations/"))


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"rows_from": PASTE, "rows": "{"}, "rows", "Line 1:"),
        ({"rows_from": PASTE, "rows": '{"item": 1}'}, "rows", "item must be an object"),
        ({"rows_from": PASTE}, "rows", "There are no rows"),
        ({"rows_from": DATASET}, "rows_from", "There is no dataset"),
        ({"rows_from": RUN, "run": "x"}, "run", "Select a valid choice"),
    ],
)
def test_rows_that_cannot_be_tried_are_refused_at_their_field(actor, run, fields, field, message):
    answer = browser_of(actor).post(change(run.evaluation), sent("try", **fields))
    assert answer.status_code == 422
    assert answer.context["form"].errors.keys() == {field}
    assert message in answer.content.decode()


def test_runs_and_datasets_of_others_are_not_offered(actor):
    stranger = make_actor()
    theirs = make_run(stranger)
    work_until_idle()
    version = make_version(stranger)
    evaluation = make_evaluation(actor)
    form = browser_of(actor).get(change(evaluation)).content.decode()
    assert str(theirs.pk) not in form
    assert str(version.pk) not in form
    for fields in (
        {"rows_from": RUN, "run": theirs.pk},
        {"rows_from": DATASET, "dataset": version.pk},
    ):
        answer = browser_of(actor).post(change(evaluation), sent("try", **fields))
        assert answer.status_code == 422
