"""Actors: who asks, in which account, with which role."""

import pytest
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.utils import timezone

from apps.accounts.models import Account
from apps.accounts.roles import Action, Role
from apps.accounts.services.actors import actor_for_user, actor_of, operator
from apps.errors import StateError
from tests.factories import make_account, make_actor, make_user

pytestmark = pytest.mark.django_db


def test_an_actor_sees_only_accounts_of_their_own():
    actor = make_actor(Role.VIEWER)
    other = make_account()
    assert list(Account.objects.visible_to(actor)) == [actor.account]
    assert not actor.may(Action.READ, other)
    with pytest.raises(PermissionDenied):
        actor.require(Action.EDIT)


def test_a_signed_in_user_gets_the_account_they_chose_and_no_foreign_one():
    user = make_user()
    first = make_actor(user=user, account=make_account("A")).account
    second = make_actor(user=user, account=make_account("B")).account
    assert actor_for_user(user).account == first
    assert actor_for_user(user, second.pk).account == second
    assert actor_for_user(user, make_account().pk).account == first
    user.is_active = False
    assert actor_for_user(user) is None


def test_the_command_line_acts_as_an_owner_before_an_admin():
    admin = make_actor(Role.ADMIN, account=make_account("Acme"))
    assert actor_of("Acme").user == admin.user
    owner = make_actor(account=admin.account)
    make_actor(account=admin.account)
    assert actor_of("Acme").user == owner.user
    viewer = make_actor(Role.VIEWER, account=admin.account)
    assert dict(actor_of("Acme", viewer.user.email).roles) == {admin.account.pk: Role.VIEWER}


def test_the_command_line_acts_for_no_unknown_disabled_or_unmanaged_account():
    make_actor(Role.EDITOR, account=make_account("Unmanaged"))
    with pytest.raises(ObjectDoesNotExist):
        actor_of("Unknown")
    with pytest.raises(StateError):
        actor_of("Unmanaged")
    with pytest.raises(ObjectDoesNotExist):
        actor_of("Unmanaged", "stranger@example.com")
    Account.objects.update(disabled_at=timezone.now())
    with pytest.raises(StateError, match="disabled"):
        actor_of("Unmanaged")


def test_a_superuser_is_an_owner_everywhere_and_others_what_they_are():
    root = make_user(is_superuser=True)
    member = make_actor(Role.VIEWER)
    assert operator(root, member.account).may(Action.MANAGE)
    assert not operator(member.user, member.account).may(Action.EDIT)
    assert not operator(make_user(is_staff=True), member.account).may(Action.READ)
