"""Accounts, their members, and the keys of programs."""

from datetime import timedelta

import pytest
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from django.utils import timezone

from apps.accounts.models import Account, ApiKey, AuditEvent, Membership, User
from apps.accounts.roles import ALLOWED, RANK, Action, Role, weaker
from apps.accounts.services.accounts import open_account, rename_account, set_disabled
from apps.accounts.services.actors import actor_for_key, actor_for_user, actor_of, operator
from apps.accounts.services.keys import (
    SERVICE_EMAIL,
    issue_key,
    provide_key,
    revoke_keys,
    rotate_key,
)
from apps.accounts.services.members import remove_member, set_role, user_by_email
from apps.errors import Invalid, Refusal, StateError, Unfit
from tests.factories import make_account, make_actor, make_key, make_user

pytestmark = pytest.mark.django_db


def test_a_weaker_role_never_allows_more():
    for first in Role.values:
        for second in Role.values:
            least = weaker(first, second)
            assert ALLOWED[least] <= ALLOWED[first]
            assert ALLOWED[least] <= ALLOWED[second]
    assert RANK[Role.OWNER] == max(RANK.values())


def test_an_address_is_the_same_in_any_case():
    user = make_user("Ann@Example.com")
    assert user.email == "ann@example.com"
    assert user_by_email("ANN@example.COM") == user
    with pytest.raises(ValidationError):
        user_by_email("no address")


def test_who_opens_an_account_owns_it():
    user = make_user()
    account = open_account(user, name=" Acme ")
    assert account.name == "Acme"
    assert Membership.objects.get(account=account, user=user).role == Role.OWNER
    with pytest.raises(Unfit):
        open_account(user, name="Acme")


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


def test_roles_are_given_by_managers_and_ownership_by_owners():
    owner = make_actor()
    account = owner.account
    admin = make_actor(Role.ADMIN, account=account)
    user = make_user()
    assert set_role(admin, user=user, role=Role.VIEWER).role == Role.VIEWER
    assert set_role(admin, user=user, role=Role.EDITOR).role == Role.EDITOR
    for refused in (
        lambda: set_role(admin, user=user, role=Role.OWNER),
        lambda: set_role(admin, user=owner.user, role=Role.VIEWER),
        lambda: remove_member(admin, user=owner.user),
        lambda: set_role(admin, user=user, role="god"),
    ):
        with pytest.raises(Refusal):
            refused()
    assert set_role(owner, user=user, role=Role.OWNER).role == Role.OWNER


def test_the_last_owner_stays():
    owner = make_actor()
    with pytest.raises(StateError):
        set_role(owner, user=owner.user, role=Role.ADMIN)
    with pytest.raises(StateError):
        remove_member(owner, user=owner.user)
    assert Membership.objects.get().role == Role.OWNER


def test_who_leaves_takes_their_keys_along():
    owner = make_actor()
    member = make_actor(Role.EDITOR, account=owner.account)
    _, secret = make_key(member)
    remove_member(owner, user=member.user)
    set_role(owner, user=member.user, role=Role.EDITOR)
    assert actor_for_key(secret) is None


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
