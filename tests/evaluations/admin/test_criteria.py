"""Criteria in the admin: tried, kept, and graded by."""

import json

import pytest

from apps.accounts.roles import Role
from apps.evaluations.models import Run
from tests.admin_pages import page_of, said, sign_in, text_of
from tests.evaluations.engine.workers import work_until_idle
from tests.factories import SAME, make_actor, make_run, make_user

pytestmark = pytest.mark.django_db(transaction=True)
NEVER = {"type": "string_check", "name": "never so", **SAME.settings, "reference": "never"}
SENT = {"criteria": json.dumps([NEVER]), "count": "5"}


@pytest.fixture
def root(client):
    client.force_login(make_user(is_staff=True, is_superuser=True))


@pytest.fixture
def run():
    run = make_run(make_actor())
    work_until_idle()
    run.refresh_from_db()
    return run


def test_a_run_is_graded_again_by_criteria_that_were_tried(client, root, run):
    url = page_of("run", "regrade", run.pk)
    assert url in text_of(client.get(page_of("run", "change", run.pk)))
    assert "&quot;same&quot;" in text_of(client.get(url))
    tried = text_of(client.post(url, {**SENT, "try": "Try"}))
    assert "What the criteria say of 5 rows" in tried
    assert Run.objects.get() == run
    answer = client.post(url, SENT)
    again = Run.objects.get(answers_of=run)
    assert answer.headers["Location"] == page_of("run", "change", again.pk)
    shown = text_of(client.get(answer.headers["Location"]))
    assert page_of("run", "change", run.pk) in shown


def test_refused_criteria_are_shown_at_their_field(client, root, run):
    for url in (
        page_of("run", "regrade", run.pk),
        page_of("evaluation", "criteria", run.evaluation_id),
    ):
        for sent in ({**SENT, "criteria": "["}, {**SENT, "criteria": "[", "try": "Try"}):
            answer = client.post(url, {**sent, "rows_from": "rows"})
            assert "This is not JSON" in text_of(answer)
    assert Run.objects.get() == run


def test_an_evaluations_criteria_are_changed(client, root, run):
    url = page_of("evaluation", "criteria", run.evaluation_id)
    assert url in text_of(client.get(page_of("evaluation", "change", run.evaluation_id)))
    sent = {**SENT, "rows_from": "run", "run": str(run.pk)}
    assert "What the criteria say of 5 rows" in text_of(client.post(url, {**sent, "try": "Try"}))
    run.evaluation.refresh_from_db()
    assert run.evaluation.criteria_version == 1
    assert client.post(url, sent).status_code == 302
    run.evaluation.refresh_from_db()
    assert run.evaluation.criteria_version == 2
    text_of(client.get(page_of("evaluation", "change", run.evaluation_id)))


def test_the_action_grades_by_the_present_criteria_and_says_what_it_could_not(client, root, run):
    going = make_run(make_actor(), name="going")
    chosen = [str(run.pk), str(going.pk)]
    answer = client.post(page_of("run"), {"action": "regrade", "_selected_action": chosen})
    assert f"{run.name}: a new run grades its answers again." in said(answer)
    assert "going: The run is still going" in said(answer)
    assert Run.objects.get(answers_of=run).criteria_version == 1


def test_who_may_only_read_or_belongs_elsewhere_is_refused(client, run):
    urls = [
        page_of("run", "regrade", run.pk),
        page_of("evaluation", "criteria", run.evaluation_id),
    ]
    for account, status in ((run.account, 403), (None, 404)):
        sign_in(
            client,
            Role.VIEWER if account else Role.OWNER,
            **({"account": account} if account else {}),
        )
        for url in urls:
            assert client.get(url).status_code == status
            assert client.post(url, SENT).status_code == status
    assert Run.objects.get() == run
