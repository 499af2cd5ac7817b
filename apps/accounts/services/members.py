"""Bring people into accounts, give them roles, and take them out."""

from typing import Any

from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Account, Actor, ApiKey, Membership, User
from apps.accounts.roles import Action, Role
from apps.accounts.services.audit import record
from apps.errors import Invalid, StateError, Unfit


def user_by_email(email: str, **fields: Any) -> User:
    """Return the user with this address; create one with these fields where there is none."""
    validate_email(email)
    user = User.objects.filter(email__iexact=email).first()
    return user or User.objects.create_user(email, **fields)


@transaction.atomic
def set_role(actor: Actor, *, user: User, role: str) -> Membership:
    """Give a user a role in the actor's account, as a new member or a present one."""
    account = actor.require(Action.MANAGE)
    if role not in Role.values:
        raise Invalid(f"There is no role {role!r}.", path="role")
    held = Membership.objects.select_for_update().filter(account=account, user=user).first()
    if Role.OWNER in {role, held.role if held else ""}:
        _require_owner(actor, account)
    if held is None:
        held = Membership.objects.create(account=account, user=user, role=role)
        record(actor, "membership.add", held, after={"user": user.email, "role": role})
        return held
    if held.role == Role.OWNER != role:
        _keep_an_owner(account, besides=held)
    before, held.role = held.role, role
    held.save(update_fields=["role"])
    record(actor, "membership.change", held, before={"role": before}, after={"role": role})
    return held


@transaction.atomic
def remove_member(actor: Actor, *, user: User) -> None:
    """Take a user, and the keys they hold there, out of the actor's account."""
    account = actor.require(Action.MANAGE)
    held = Membership.objects.get(account=account, user=user)
    if held.role == Role.OWNER:
        _require_owner(actor, account)
        _keep_an_owner(account, besides=held)
    record(actor, "membership.remove", held, before={"user": user.email, "role": held.role})
    held.delete()
    ApiKey.objects.filter(account=account, user=user, revoked_at=None).update(
        revoked_at=timezone.now()
    )


def _require_owner(actor: Actor, account: Account) -> None:
    if actor.roles[account.pk] != Role.OWNER:
        raise Unfit("Only an owner makes, changes or removes an owner.", path="role")


def _keep_an_owner(account: Account, *, besides: Membership) -> None:
    others = Membership.objects.filter(account=account, role=Role.OWNER).exclude(pk=besides.pk)
    if not others.exists():
        raise StateError(f"{besides.user} is the last owner of {account}: name another first.")
