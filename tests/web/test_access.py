"""People sign in and out, select an account, and are led to the page that they wanted."""

from collections.abc import Iterator

import pytest
from django.contrib.auth import get_user
from django.test import Client
from django.urls import reverse

from apps.accounts.models import Account
from apps.accounts.roles import Role
from evalplatform.sessions import SELECTED_ACCOUNT
from evalplatform.web import access
from evalplatform.web.attempts import Attempts
from tests.factories import make_account, make_actor, make_user
from tests.web.worked import browser_of, make_run

pytestmark = pytest.mark.django_db

SIGN_IN = "/app/sign-in/"


@pytest.fixture(autouse=True)
def _nobody_has_tried_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(access, "FAILED_ADDRESSES", Attempts(limit=10, seconds=600))
    monkeypatch.setattr(access, "FAILED_HOSTS", Attempts(limit=100, seconds=600))
    return None


def sign_in(client: Client, **fields: str):
    return client.post(SIGN_IN, {"email": "ada@example.com", "password": "secret", **fields})


@pytest.mark.parametrize("path", ["/app/runs/", "/app/evaluations/", "/app/datasets/?after=1"])
def test_who_is_not_signed_in_is_sent_there_and_back(path: str) -> None:
    make_user("ada@example.com", password="secret")
    client = Client()
    sent = client.get(path)
    assert sent.status_code == 302
    assert sent.url.startswith(f"{SIGN_IN}?next=")
    page = client.get(sent.url)
    back = sign_in(client, next=page.context["next"])
    assert (back.status_code, back.url) == (302, path)


def test_the_start_leads_to_the_runs() -> None:
    client = browser_of(make_actor())
    assert client.get("/", follow=True).redirect_chain[-1][0] == "/app/runs/"


def test_an_address_is_compared_without_case() -> None:
    make_user("ada@example.com", password="secret")
    assert sign_in(Client(), email="  Ada@Example.com ").status_code == 302


@pytest.mark.parametrize(
    "fields",
    [
        {"password": "wrong"},
        {"email": "nobody@example.com"},
        {"email": "a\0@example.com"},
        {"password": ""},
    ],
)
def test_a_wrong_password_and_a_wrong_address_look_the_same(fields: dict[str, str]) -> None:
    make_user("ada@example.com", password="secret")
    client = Client()
    answer = sign_in(client, **fields)
    assert answer.status_code == 422
    assert access.REFUSED in answer.content.decode()
    assert not get_user(client).is_authenticated


def test_a_person_who_is_not_active_cannot_sign_in() -> None:
    make_user("ada@example.com", password="secret", is_active=False)
    assert sign_in(Client()).status_code == 422


@pytest.mark.parametrize(
    "goal",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
        "http:///evil.example",
        "",
    ],
)
def test_nobody_is_led_to_another_site(goal: str) -> None:
    make_user("ada@example.com", password="secret")
    assert sign_in(Client(), next=goal).url == "/app/runs/"


def test_wrong_passwords_are_bounded_and_a_right_one_waits_too() -> None:
    make_user("ada@example.com", password="secret")
    client = Client()
    for _ in range(10):
        assert sign_in(client, password="wrong").status_code == 422
    answer = sign_in(client)
    assert answer.status_code == 429
    assert "Try again in 10 min" in answer.content.decode()
    make_user("bob@example.com", password="secret")
    assert sign_in(client, email="bob@example.com").status_code == 302


def test_signing_in_needs_the_token_of_its_page() -> None:
    make_user("ada@example.com", password="secret")
    assert sign_in(Client(enforce_csrf_checks=True)).status_code == 403


def test_signing_out_is_posted_and_ends_the_session() -> None:
    client = browser_of(make_actor())
    assert client.get("/app/sign-out/").status_code == 405
    client.post("/app/sign-out/")
    assert client.get("/app/runs/").status_code == 302


def test_one_chooses_among_ones_own_accounts() -> None:
    first = make_actor(account=make_account("A first"))
    second = make_actor(account=make_account("B second"), user=first.user)
    client = browser_of(first)
    assert client.get("/app/runs/").context["account_choice"].selected == first.account
    chosen = client.post("/app/account/", {"account": str(second.account.pk)})
    assert chosen.url == "/app/runs/"
    page = client.get("/app/runs/")
    assert page.context["account_choice"].selected == second.account
    assert b"A first" in page.content


@pytest.mark.parametrize("choice", ["", "x", "00000000-0000-4000-8000-000000000000"])
def test_one_cannot_choose_an_account_one_does_not_belong_to(choice: str) -> None:
    stranger = make_actor()
    client = browser_of(make_actor())
    for wanted in (choice, str(stranger.account.pk)):
        client.post("/app/account/", {"account": wanted})
        assert SELECTED_ACCOUNT not in client.session
        page = client.get(f"/app/runs/?account={wanted}")
        assert page.context["account_choice"].selected != stranger.account


def test_a_link_into_another_of_ones_accounts_selects_it() -> None:
    first = make_actor(account=make_account("A first"))
    second = make_actor(account=make_account("B second"), user=first.user)
    run = make_run(second)
    client = browser_of(first)
    assert client.get(reverse("web:run", args=[run.pk])).status_code == 200
    assert client.get("/app/runs/").context["account_choice"].selected == second.account


def test_a_part_that_refreshes_itself_selects_nothing() -> None:
    first = make_actor(account=make_account("A first"))
    second = make_actor(account=make_account("B second"), user=first.user)
    run = make_run(second)
    client = browser_of(first)
    for name in ("web:run_live", "web:results_live"):
        assert client.get(reverse(name, args=[run.pk])).status_code == 200
    listed = client.get(f"/app/runs/live/?account={second.account.pk}")
    assert run.name in listed.content.decode()
    assert client.get("/app/runs/").context["account_choice"].selected == first.account


def test_somebody_without_an_account_sees_empty_lists() -> None:
    client = Client()
    client.force_login(make_user())
    for path in ("/app/runs/", "/app/evaluations/", "/app/datasets/"):
        assert client.get(path).status_code == 200


def test_a_disabled_account_is_not_shown() -> None:
    actor = make_actor()
    run = make_run(actor)
    Account.objects.filter(pk=actor.account.pk).update(disabled_at="2026-01-01T00:00Z")
    assert browser_of(actor).get(reverse("web:run", args=[run.pk])).status_code == 404


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ANNOTATOR])
def test_who_may_only_look_is_offered_nothing_else(role: str) -> None:
    owner = make_actor()
    run = make_run(owner, ["e"])
    going = make_run(owner, ["e"], is_finished=False)
    looker = browser_of(make_actor(role, account=owner.account))
    for one, action in ((run, "web:retry_run"), (going, "web:cancel_run")):
        page = looker.get(reverse("web:run", args=[one.pk])).content.decode()
        assert reverse(action, args=[one.pk]) not in page
        assert "popovertarget" not in page
        assert looker.post(reverse(action, args=[one.pk])).status_code == 403


def test_pages_are_kept_by_no_cache() -> None:
    answer = browser_of(make_actor()).get("/app/runs/")
    assert "no-store" in answer["Cache-Control"]
    assert "private" in answer["Cache-Control"]


def test_the_admin_asks_nothing_for_the_account_choice(
    django_assert_max_num_queries,
) -> None:
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    client.get("/admin/password_change/")
    with django_assert_max_num_queries(2) as asked:  # the session and the user
        client.get("/admin/password_change/")
    assert not any("account" in query["sql"] and "membership" in query["sql"] for query in asked)
