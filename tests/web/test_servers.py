"""The model servers of a run are tested from its page, by those who manage the account."""

import pytest
from django.test import Client
from django.urls import reverse

from apps.accounts.roles import Role
from apps.evaluations.models import Run
from tests.factories import ask, make_actor, make_endpoint, make_run
from tests.model_server import ModelServer
from tests.web.pages import text_of, url_of
from tests.web.worked import browser_of

pytestmark = pytest.mark.django_db


def page_after(browser: Client, run: Run) -> str:
    answer = browser.post(reverse("web:test_servers", args=[run.pk]), follow=True)
    assert answer.status_code == 200
    return text_of(answer)


def test_each_model_of_the_run_is_asked_for_a_word(server: ModelServer) -> None:
    actor = make_actor()
    make_endpoint(actor, server.base_url, models=["m", "status-401"])
    run = make_run(actor, target=ask("m"))
    assert "Test model servers" in text_of(browser_of(actor).get(url_of(run)))
    page = page_after(browser_of(actor), run)
    assert f"{server.base_url}: m answered" in page
    assert f"{server.base_url}: status-401: " in page


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR])
def test_who_does_not_manage_the_account_has_no_button(role: Role, server: ModelServer) -> None:
    actor = make_actor()
    make_endpoint(actor, server.base_url, models=["m"])
    run = make_run(actor, target=ask("m"))
    other = make_actor(role, account=actor.account)
    assert "Test model servers" not in text_of(browser_of(other).get(url_of(run)))
    answer = browser_of(other).post(reverse("web:test_servers", args=[run.pk]))
    assert answer.status_code == 403
    assert server.counts()["total"] == 0


def test_a_run_that_asks_nobody_has_nothing_to_test() -> None:
    actor = make_actor()
    run = make_run(actor)
    assert "Test model servers" not in text_of(browser_of(actor).get(url_of(run)))
    stranger = browser_of(make_actor())
    assert stranger.post(reverse("web:test_servers", args=[run.pk])).status_code == 404
