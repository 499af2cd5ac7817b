"""Accounts: opened, renamed, disabled and enabled."""

import pytest
from django.core.exceptions import PermissionDenied

from apps.accounts.models import AuditEvent, Membership
from apps.accounts.roles import Role
from apps.accounts.services.accounts import open_account, rename_account, set_disabled
from apps.accounts.services.actors import actor_for_user
from apps.errors import Unfit
from tests.factories import make_account, make_actor, make_user

pytestmark = pytest.mark.django_db


def test_who_opens_an_account_owns_it():
    user = make_user()
    account = open_account(user, name=" Acme ")
    assert account.name == "Acme"
    assert Membership.objects.get(account=account, user=user).role == Role.OWNER
    with pytest.raises(Unfit):
        open_account(user, name="Acme")


def test_an_account_is_renamed_disabled_and_enabled_by_managers():
    owner = make_actor()
    taken = make_account("Taken")
    rename_account(owner, owner.account, name="New")
    with pytest.raises(Unfit):
        rename_account(owner, owner.account, name=taken.name)
    set_disabled(owner, owner.account, is_disabled=True)
    assert actor_for_user(owner.user).account is None
    set_disabled(owner, owner.account, is_disabled=False)
    assert actor_for_user(owner.user).account.name == "New"
    with pytest.raises(PermissionDenied):
        rename_account(make_actor(Role.EDITOR, account=owner.account), owner.account, name="X")
    actions = AuditEvent.objects.filter(account=owner.account).values_list("action", flat=True)
    assert set(actions) == {"account.rename", "account.disable", "account.enable"}
