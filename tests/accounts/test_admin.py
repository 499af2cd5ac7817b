"""The admin of people, accounts and keys: what it shows to whom, and that it goes by services."""

import re
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.messages import get_messages
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.accounts.models import Account, ApiKey, AuditEvent, Membership, User
from apps.accounts.owned_admin import CappedPaginator, OwnedAdmin
from apps.accounts.roles import Role
from apps.accounts.services.actors import actor_for_key
from tests.factories import make_account, make_actor, make_key, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(client):
    user = make_user(is_staff=True, is_superuser=True)
    client.force_login(user)
    return user


def sign_in(client, role: str, **given):
    actor = make_actor(role, user=make_user(is_staff=True), **given)
    client.force_login(actor.user)
    return actor


def page_of(name: str, *args) -> str:
    return reverse(f"admin:{name}", args=args)


def said(response) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def test_every_list_and_add_page_opens_for_a_superuser(client, root):
    make_key()
    assert client.get(page_of("index")).status_code == 200
    for model, model_admin in admin.site._registry.items():
        if not isinstance(model_admin, OwnedAdmin) and model is not User:
            continue
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        assert client.get(page_of(f"{name}_changelist")).status_code == 200
        assert client.get(page_of(f"{name}_add")).status_code in {200, 403}


def test_who_is_no_staff_is_sent_to_sign_in(client):
    client.force_login(make_actor().user)
    response = client.get(page_of("accounts_account_changelist"))
    assert response.status_code == 302
    assert client.get(response["Location"]).status_code == 200


@pytest.mark.parametrize("role", Role.values)
def test_staff_see_and_open_only_what_is_of_their_accounts(client, role):
    mine, foreign = sign_in(client, role), make_actor()
    make_key(foreign)
    page = client.get(page_of("accounts_account_changelist")).content.decode()
    assert mine.account.name in page
    assert foreign.account.name not in page
    foreign_page = page_of("accounts_account_change", foreign.account.pk)
    assert client.get(foreign_page).status_code == 302
    for name in ("accounts_membership_changelist", "accounts_user_changelist"):
        page = client.get(page_of(name)).content.decode()
        assert mine.user.email in page
        assert foreign.user.email not in page
    keys = client.get(page_of("accounts_apikey_changelist"))
    assert keys.status_code == (200 if role in {Role.OWNER, Role.ADMIN} else 403)
    assert foreign.user.email not in keys.content.decode()


def test_a_list_of_many_takes_as_many_queries_as_one_of_few(client, root):
    def queries_of(name: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(page_of(name))
        return len(queries)

    names = ["accounts_account", "accounts_membership", "accounts_apikey", "accounts_auditevent"]
    names = [f"{name}_changelist" for name in [*names, "accounts_user"]]
    make_key()
    few = [queries_of(name) for name in names]
    for _ in range(5):
        make_key()
    assert [queries_of(name) for name in names] == few


def test_a_superuser_adds_a_person_with_a_password(client, root):
    given = {
        "email": "Ann@Example.com",
        "usable_password": "true",
        "password1": "long enough 1",
        "password2": "long enough 1",
    }
    response = client.post(page_of("accounts_user_add"), given)
    user = User.objects.get(email="ann@example.com")
    assert response.status_code == 302
    assert user.check_password("long enough 1")
    assert AuditEvent.objects.get(action="user.add").user == root
    given["email"] = "ANN@example.com"
    assert client.post(page_of("accounts_user_add"), given).status_code == 200
    assert User.objects.filter(email__iexact="ann@example.com").count() == 1


def test_a_superuser_changes_a_person(client, root):
    user = make_user()
    page = page_of("accounts_user_change", user.pk)
    assert client.get(page).status_code == 200
    client.post(page, {"email": user.email, "name": "Ann", "is_active": "on", "is_staff": "on"})
    user.refresh_from_db()
    assert (user.name, user.is_staff, user.is_superuser) == ("Ann", True, False)


def test_staff_cannot_make_themselves_superusers(client):
    actor = sign_in(client, Role.OWNER)
    page = page_of("accounts_user_change", actor.user.pk)
    shown = client.get(page).content.decode()
    assert actor.user.email in shown
    assert "password" not in shown.partition("<form")[2].partition("logout")[2]
    answer = client.post(page, {"email": actor.user.email, "is_superuser": "on", "is_active": "on"})
    assert answer.status_code == 403
    actor.user.refresh_from_db()
    assert not actor.user.is_superuser
    password_page = page_of("auth_user_password_change", actor.user.pk)
    assert client.get(password_page).status_code == 403


def member_rows(*rows: dict, initial: int = 0) -> dict:
    data = {
        "memberships-TOTAL_FORMS": len(rows),
        "memberships-INITIAL_FORMS": initial,
        "memberships-MIN_NUM_FORMS": 0,
        "memberships-MAX_NUM_FORMS": 1000,
    }
    for number, row in enumerate(rows):
        data |= {f"memberships-{number}-{name}": value for name, value in row.items()}
    return data


def test_a_superuser_opens_an_account_and_owns_it(client, root):
    client.post(page_of("accounts_account_add"), {"name": "Acme"})
    assert Membership.objects.get(account__name="Acme").user == root
    answer = client.post(page_of("accounts_account_add"), {"name": "Acme"})
    assert answer.status_code == 200
    assert Account.objects.count() == 1


def test_members_come_change_and_go_on_the_page_of_their_account(client, root):
    owner = make_actor()
    leaving = Membership.objects.get(user=make_actor(Role.VIEWER, account=owner.account).user)
    held = Membership.objects.get(user=owner.user)
    page = page_of("accounts_account_change", owner.account.pk)
    assert owner.user.email in client.get(page).content.decode()
    ids = {"account": owner.account.pk}
    client.post(
        page,
        {"name": "Renamed"}
        | member_rows(
            {"id": held.pk, "role": Role.OWNER, **ids},
            {"id": leaving.pk, "role": Role.VIEWER, "DELETE": "on", **ids},
            {"id": "", "email": "New@example.com", "role": Role.EDITOR, **ids},
            initial=2,
        ),
    )
    owner.account.refresh_from_db()
    assert owner.account.name == "Renamed"
    roles = Membership.objects.values_list("user__email", "role")
    assert set(roles) == {(owner.user.email, "owner"), ("new@example.com", "editor")}
    assert AuditEvent.objects.filter(action__startswith="membership.").count() == 2


def test_what_a_service_refuses_is_said_and_not_done(client, root):
    owner = make_actor()
    held = Membership.objects.get(user=owner.user)
    page = page_of("accounts_account_change", owner.account.pk)
    row = {"id": held.pk, "account": owner.account.pk, "role": Role.VIEWER}
    answer = client.post(page, {"name": "Renamed"} | member_rows(row, initial=1))
    assert "last owner" in said(answer)
    held.refresh_from_db()
    owner.account.refresh_from_db()
    assert held.role == Role.OWNER
    assert owner.account.name != "Renamed"
    answer = client.post(page_of("accounts_membership_delete", held.pk), {"post": "yes"})
    assert "last owner" in said(answer)
    assert Membership.objects.filter(pk=held.pk).exists()


def test_an_editor_changes_nobody(client):
    actor = sign_in(client, Role.EDITOR)
    held = Membership.objects.get(user=actor.user)
    page = page_of("accounts_account_change", actor.account.pk)
    assert client.post(page, {"name": "Mine"} | member_rows()).status_code == 403
    page = page_of("accounts_membership_change", held.pk)
    assert client.post(page, {"role": Role.OWNER}).status_code == 403
    assert client.get(page_of("accounts_membership_add")).status_code == 403


def test_an_admin_brings_people_into_their_own_account_alone(client):
    actor, foreign = sign_in(client, Role.ADMIN), make_account()
    page = page_of("accounts_membership_add")
    given = {"email": "new@example.com", "role": Role.EDITOR}
    assert client.post(page, given | {"account": foreign.pk}).status_code == 200
    assert not Membership.objects.filter(account=foreign).exists()
    client.post(page, given | {"account": actor.account.pk})
    held = Membership.objects.get(user__email="new@example.com")
    assert (held.account, held.role) == (actor.account, Role.EDITOR)
    client.post(page_of("accounts_membership_change", held.pk), {"role": Role.VIEWER})
    held.refresh_from_db()
    assert held.role == Role.VIEWER
    client.post(page_of("accounts_membership_delete", held.pk), {"post": "yes"})
    assert not Membership.objects.filter(pk=held.pk).exists()


def test_superusers_alone_disable_accounts(client, root):
    actor = make_actor()
    given = {"action": "disable", "_selected_action": [str(actor.account.pk)]}
    client.post(page_of("accounts_account_changelist"), given)
    assert Account.objects.get().disabled_at is not None
    client.post(page_of("accounts_account_changelist"), given | {"action": "enable"})
    assert Account.objects.get().disabled_at is None
    sign_in(client, Role.OWNER, account=actor.account)
    client.post(page_of("accounts_account_changelist"), given)
    assert Account.objects.get().disabled_at is None


def issue(client, actor, **given):
    expires = timezone.now() + timedelta(days=3)
    data = {
        "account": actor.account.pk,
        "email": actor.user.email,
        "role": Role.ADMIN,
        "name": "CI",
        "expires_at_0": f"{expires:%Y-%m-%d}",
        "expires_at_1": "12:00",
    }
    return client.post(page_of("accounts_apikey_add"), data | given)


def secrets_in(text: str) -> list[str]:
    return re.findall(r"ep-[0-9a-f]{60}", text)


def test_a_key_is_shown_once_when_it_is_issued(client):
    actor = sign_in(client, Role.ADMIN)
    assert actor.user.email in client.get(page_of("accounts_apikey_add")).content.decode()
    answer = issue(client, actor)
    (secret,) = secrets_in(said(answer))
    assert actor_for_key(secret).account == actor.account
    first = client.get(answer["Location"]).content.decode()
    assert secret in first
    key = ApiKey.objects.get()
    for page in (
        page_of("accounts_apikey_changelist"),
        page_of("accounts_apikey_change", key.pk),
        page_of("accounts_auditevent_changelist"),
    ):
        shown = client.get(page).content.decode()
        assert secret not in shown
        assert key.secret_hash not in shown


def test_no_key_is_issued_for_a_stranger_a_foreign_account_or_beyond_ones_role(client):
    actor, foreign = sign_in(client, Role.ADMIN), make_actor()
    assert "not a member" in said(issue(client, actor, email=foreign.user.email))
    assert "not a member" in said(issue(client, actor, email="nobody@example.com"))
    assert "cannot do more" in said(issue(client, actor, role=Role.OWNER))
    assert issue(client, foreign).status_code == 200
    assert not ApiKey.objects.exists()
    assert not User.objects.filter(email="nobody@example.com").exists()


def test_keys_are_revoked_and_rotated_by_actions(client):
    actor = sign_in(client, Role.ADMIN)
    (key, old), (other, other_secret) = make_key(actor), make_key(actor)
    page = page_of("accounts_apikey_changelist")
    answer = client.post(page, {"action": "rotate", "_selected_action": [str(key.pk)]})
    (new,) = secrets_in(said(answer))
    assert actor_for_key(old) is None
    assert actor_for_key(new) is not None
    client.post(page, {"action": "revoke", "_selected_action": [str(other.pk)]})
    assert actor_for_key(other_secret) is None
    answer = client.post(page, {"action": "rotate", "_selected_action": [str(other.pk)]})
    assert "revoked" in said(answer)
    assert ApiKey.objects.count() == 3


def test_keys_and_events_are_neither_changed_nor_deleted(client, root):
    key, _ = make_key()
    event = AuditEvent.objects.get()
    for name, row in (("accounts_apikey", key), ("accounts_auditevent", event)):
        assert client.post(page_of(f"{name}_change", row.pk), {"role": "owner"}).status_code == 403
        assert client.post(page_of(f"{name}_delete", row.pk), {"post": "yes"}).status_code == 403
    assert client.post(page_of("accounts_user_delete", key.user.pk)).status_code == 403


def test_a_paginator_counts_no_further_than_its_cap(monkeypatch):
    for _ in range(5):
        make_account()
    monkeypatch.setattr(CappedPaginator, "CAP", 3)
    assert CappedPaginator(Account.objects.all(), 2).count == 3
