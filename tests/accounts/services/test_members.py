"""Members: their roles, and the owner that an account keeps."""

import pytest
from django.core.exceptions import ValidationError

from apps.accounts.models import Membership
from apps.accounts.roles import ALLOWED, RANK, Role, weaker
from apps.accounts.services.members import remove_member, set_role, user_by_email
from apps.errors import Refusal, StateError
from tests.factories import make_actor, make_user

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
