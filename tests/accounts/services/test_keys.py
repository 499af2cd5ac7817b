"""Keys: issued, provided, rotated, and how far they reach."""

from datetime import timedelta

import pytest
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from apps.accounts.models import Account, ApiKey, Membership, User
from apps.accounts.roles import Action, Role
from apps.accounts.services.actors import actor_for_key
from apps.accounts.services.keys import (
    SERVICE_EMAIL,
    issue_key,
    provide_key,
    revoke_keys,
    rotate_key,
)
from apps.accounts.services.members import remove_member, set_role
from apps.errors import Invalid, StateError, Unfit
from tests.factories import make_account, make_actor, make_key, make_user

pytestmark = pytest.mark.django_db


def test_a_key_speaks_for_its_user_in_its_account_alone():
    actor = make_actor(Role.EDITOR)
    make_actor(user=actor.user)
    key, secret = make_key(actor)
    found = actor_for_key(secret)
    assert (found.user, found.account) == (actor.user, actor.account)
    assert dict(found.roles) == {actor.account.pk: Role.EDITOR}
    assert secret not in str(ApiKey.objects.filter(pk=key.pk).values().get())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1)),
        lambda key: ApiKey.objects.update(revoked_at=timezone.now()),
        lambda key: User.objects.update(is_active=False),
        lambda key: Account.objects.update(disabled_at=timezone.now()),
        lambda key: Membership.objects.all().delete(),
    ],
    ids=["expired", "revoked", "inactive user", "disabled account", "no longer a member"],
)
def test_an_unusable_key_is_nobody(spoil):
    key, secret = make_key()
    assert actor_for_key(secret) is not None
    spoil(key)
    assert actor_for_key(secret) is None
    assert actor_for_key("ep-unknown\udcff") is None


def test_the_last_use_of_a_key_is_written_at_most_once_a_minute(django_assert_num_queries):
    key, secret = make_key()
    actor_for_key(secret)
    first = ApiKey.objects.get(pk=key.pk).last_used_at
    assert first is not None
    with django_assert_num_queries(1):
        actor_for_key(secret)
    ApiKey.objects.update(last_used_at=first - timedelta(minutes=2))
    actor_for_key(secret)
    assert ApiKey.objects.get(pk=key.pk).last_used_at >= first


def test_a_key_is_issued_only_to_members_by_managers_and_no_stronger_than_them():
    admin = make_actor(Role.ADMIN)
    editor = make_actor(Role.EDITOR, account=admin.account)
    with pytest.raises(Unfit):
        issue_key(admin.account, make_user(), by=admin)
    with pytest.raises(PermissionDenied):
        issue_key(admin.account, editor.user, by=editor)
    with pytest.raises(Unfit):
        issue_key(admin.account, admin.user, role=Role.OWNER, by=admin)
    with pytest.raises(Invalid):
        issue_key(admin.account, admin.user, expires_at=timezone.now())
    with pytest.raises(Invalid):
        issue_key(admin.account, admin.user, role="god")
    assert not ApiKey.objects.exists()
    issue_key(admin.account, editor.user, role=Role.VIEWER, by=admin)


def test_rotating_a_key_replaces_it_once():
    actor = make_actor()
    key, old = make_key(actor, role=Role.VIEWER, name="CI")
    new_key, new = rotate_key(actor, key)
    assert (new_key.role, new_key.name) == (Role.VIEWER, "CI")
    assert actor_for_key(old) is None
    assert actor_for_key(new).roles[actor.account.pk] == Role.VIEWER
    with pytest.raises(StateError):
        rotate_key(actor, key)
    assert revoke_keys(actor, [key]) == 0


def test_who_leaves_takes_their_keys_along():
    owner = make_actor()
    member = make_actor(Role.EDITOR, account=owner.account)
    _, secret = make_key(member)
    remove_member(owner, user=member.user)
    set_role(owner, user=member.user, role=Role.EDITOR)
    assert actor_for_key(secret) is None


def test_a_key_is_provided_with_the_account_and_user_that_are_missing():
    key, secret = provide_key(account_name="Acme")
    assert (key.account.name, key.user.email, key.role) == ("Acme", SERVICE_EMAIL, Role.ADMIN)
    assert key.user.is_service
    assert actor_for_key(secret).may(Action.OPEN_ACCOUNT)
    again, _ = provide_key(account_name="Acme", email="ann@example.com", role=Role.VIEWER)
    assert again.account == key.account
    assert Membership.objects.get(user__email="ann@example.com").role == Role.VIEWER


def test_a_provided_key_is_never_stronger_than_its_user():
    editor = make_actor(Role.EDITOR, account=make_account("Acme"))
    key, _ = provide_key(account_name="Acme", email=editor.user.email)
    assert key.role == Role.EDITOR
    with pytest.raises(Unfit):
        provide_key(account_name="Acme", email=editor.user.email, role=Role.ADMIN)


def test_no_key_is_provided_for_a_disabled_account_or_an_inactive_user():
    provide_key(account_name="Acme", email="ann@example.com")
    User.objects.update(is_active=False)
    with pytest.raises(StateError):
        provide_key(account_name="Acme", email="ann@example.com")
    Account.objects.update(disabled_at=timezone.now())
    with pytest.raises(StateError):
        provide_key(account_name="Acme")
    assert not User.objects.filter(email=SERVICE_EMAIL).exists()
