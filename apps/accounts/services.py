"""Open accounts, bring people in, and issue, find and revoke the keys of programs."""

import hashlib
import json
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.core.validators import validate_email
from django.db import models, transaction
from django.utils import timezone

from apps.accounts.models import Account, Actor, ApiKey, AuditEvent, Membership, User
from apps.accounts.roles import Action, Role, weaker
from apps.errors import Invalid, StateError, Unfit

KEY_MARK = "ep-"
# Whose keys are those that were made at the command line without naming anybody.
SERVICE_EMAIL = "api@localhost"
MANAGERS = (Role.OWNER, Role.ADMIN)
# A key's last use is written at most this often: a poll must not become a write.
LAST_USED_GRAIN = timedelta(minutes=1)


def hash_of(secret: str) -> str:
    """Hex SHA-256. A plain digest is enough: no dictionary holds 240 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def record(
    actor: Actor | None,
    action: str,
    target: models.Model,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Add an audit event; the caller's transaction decides whether it happened."""
    account = target if isinstance(target, Account) else getattr(target, "account", None)
    AuditEvent.objects.create(
        account=account,
        user=actor.user if actor else None,
        action=action,
        object_type=target._meta.model_name or "",
        object_id=str(target.pk),
        before=json.dumps(before, default=str) if before else "",
        after=json.dumps(after, default=str) if after else "",
        request_id=actor.request_id if actor else "",
    )


def roles_of(user: User) -> dict[UUID, str]:
    """The user's role in each account that is open."""
    return dict(
        Membership.objects.filter(user=user, account__disabled_at=None).values_list(
            "account_id", "role"
        )
    )


def actor_for_user(
    user: User | AnonymousUser, account_id: UUID | str | None = None, request_id: str = ""
) -> Actor | None:
    """The actor of a signed-in user with one account selected; None when not signed in.

    Without a valid choice the first account by name is selected.
    """
    if not isinstance(user, User) or not user.is_active:
        return None
    roles = roles_of(user)
    accounts = list(Account.objects.filter(pk__in=roles).order_by("name"))
    chosen = next((account for account in accounts if str(account.pk) == str(account_id)), None)
    return Actor(user, chosen or (accounts[0] if accounts else None), roles, request_id)


def actor_for_key(secret: str, request_id: str = "") -> Actor | None:
    """The actor behind a key, confined to the key's account; None for an unusable key."""
    key = (
        ApiKey.objects.usable()
        .filter(secret_hash=hash_of(secret), user__memberships__account=models.F("account"))
        .annotate(member_role=models.F("user__memberships__role"))
        .select_related("user", "account")
        .order_by()
        .first()
    )
    if key is None:
        return None
    now = timezone.now()
    if key.last_used_at is None or key.last_used_at < now - LAST_USED_GRAIN:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    role = weaker(key.role, key.member_role)
    return Actor(key.user, key.account, {key.account_id: role}, request_id)


def find_account(name: str) -> Account:
    """The account of this name. Raises ObjectDoesNotExist."""
    account = Account.objects.filter(name=name).first()
    if account is None:
        raise Account.DoesNotExist(f"There is no account named {name!r}.")
    return account


def actor_of(account_name: str, email: str | None = None) -> Actor:
    """Who acts for an operator at the command line: this member, else an owner or admin.

    Raises ObjectDoesNotExist for an unknown account or member, StateError for a disabled account
    or one that nobody manages.
    """
    account = find_account(account_name)
    _require_open(account)
    members = Membership.objects.filter(account=account, user__is_active=True)
    members = members.select_related("user").order_by("created_at", "pk")
    if email is not None:
        member = members.filter(user__email__iexact=email).first()
        if member is None:
            raise Membership.DoesNotExist(f"{email} is not a member of {account}.")
    else:
        held = {member.role: member for member in members.filter(role__in=MANAGERS).reverse()}
        member = held.get(Role.OWNER) or held.get(Role.ADMIN)
        if member is None:
            raise StateError(f"{account} has neither an owner nor an admin.")
    return Actor(member.user, account, {account.pk: member.role})


def operator(user: User, account: Account | None = None, request_id: str = "") -> Actor:
    """The actor of somebody in the admin: a superuser is an owner of whichever account."""
    if user.is_superuser:
        return Actor(user, account, {account.pk: Role.OWNER} if account else {}, request_id)
    return Actor(user, account, roles_of(user), request_id)


def _require_open(account: Account) -> None:
    if account.disabled_at is not None:
        raise StateError(f"The account {account} is disabled.")


@transaction.atomic
def open_account(user: User, *, name: str) -> Account:
    """A new account with `user` as its owner. Raises Invalid for an empty or a taken name."""
    account = Account.objects.create(name=_free_name(name))
    Membership.objects.create(account=account, user=user, role=Role.OWNER)
    record(None, "account.open", account, after={"name": account.name, "owner": user.email})
    return account


@transaction.atomic
def rename_account(actor: Actor, account: Account, *, name: str) -> None:
    actor.require(Action.MANAGE, account)
    before = Account.objects.select_for_update().get(pk=account.pk).name
    account.name = name if name == before else _free_name(name)
    Account.objects.filter(pk=account.pk).update(name=account.name)
    record(actor, "account.rename", account, before={"name": before}, after={"name": account.name})


@transaction.atomic
def set_disabled(actor: Actor, account: Account, *, is_disabled: bool) -> None:
    """Lock everybody and every key out of an account, or let them in again."""
    actor.require(Action.MANAGE, account)
    changed = Account.objects.filter(pk=account.pk, disabled_at__isnull=is_disabled).update(
        disabled_at=timezone.now() if is_disabled else None
    )
    if changed:
        record(actor, "account.disable" if is_disabled else "account.enable", account)


def _free_name(name: str) -> str:
    name = name.strip()
    if not 0 < len(name) <= 200:
        raise Invalid("An account's name has 1 to 200 characters.", path="name")
    if Account.objects.filter(name=name).exists():
        raise Unfit(f"There is an account named {name!r} already.", path="name")
    return name


def user_by_email(email: str, **fields: Any) -> User:
    """The user with this address, made with these fields and no password when there is none."""
    validate_email(email)
    user = User.objects.filter(email__iexact=email).first()
    return user or User.objects.create_user(email, **fields)


@transaction.atomic
def set_role(actor: Actor, *, user: User, role: str) -> Membership:
    """Bring a user into the actor's account, or change their role. The last owner stays owner."""
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


@transaction.atomic
def issue_key(
    account: Account,
    user: User,
    *,
    role: str = Role.ADMIN,
    name: str = "",
    expires_at: datetime | None = None,
    by: Actor | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its secret, which is shown this once. The user must be a member."""
    if role not in Role.values:
        raise Invalid(f"There is no role {role!r}.", path="role")
    if by is not None:
        by.require(Action.MANAGE, account)
        if weaker(role, by.roles[account.pk]) != role:
            raise Unfit("A key cannot do more than the one who issues it.", path="role")
    if not Membership.objects.filter(account=account, user=user).exists():
        raise Unfit(f"{user} is not a member of {account}.", path="user")
    if expires_at is not None and expires_at <= timezone.now():
        raise Invalid("A key's expiry must lie in the future.", path="expires_at")
    secret = KEY_MARK + secrets.token_hex(30)
    key = ApiKey.objects.create(
        account=account,
        user=user,
        role=role,
        name=name,
        expires_at=expires_at,
        prefix=secret[: len(KEY_MARK) + 8],
        secret_hash=hash_of(secret),
    )
    record(by, "api_key.issue", key, after={"prefix": key.prefix, "user": user.email, "role": role})
    return key, secret


@transaction.atomic
def provide_key(
    *,
    account_name: str,
    email: str = SERVICE_EMAIL,
    role: str | None = None,
    name: str = "",
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A key for an operator at the command line; what is missing of account and user is made.

    Who opens an account owns it. role None: admin, or the member's own where that may do less.
    """
    user = user_by_email(email, is_service=email == SERVICE_EMAIL)
    account = Account.objects.filter(name=account_name.strip()).first()
    account = account or open_account(user, name=account_name)
    _require_open(account)
    if not user.is_active:
        raise StateError(f"{user} is no longer active.")
    member = Membership.objects.filter(account=account, user=user).first()
    if member is None:
        member = Membership.objects.create(account=account, user=user, role=role or Role.ADMIN)
        after = {"user": user.email, "role": member.role}
        record(None, "membership.add", member, after=after)
    role = role or weaker(Role.ADMIN, member.role)
    if weaker(role, member.role) != role:
        raise Unfit(f"{user} is {member.role} in {account}: no key of theirs can be {role}.")
    return issue_key(account, user, role=role, name=name, expires_at=expires_at)


@transaction.atomic
def revoke_keys(actor: Actor, keys: Iterable[ApiKey]) -> int:
    """Make keys useless at once; how many were still in use."""
    count = 0
    for key in keys:
        actor.require(Action.MANAGE, key.account)
        taken = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
        if taken:
            record(actor, "api_key.revoke", key, before={"prefix": key.prefix})
        count += taken
    return count


@transaction.atomic
def rotate_key(actor: Actor, key: ApiKey) -> tuple[ApiKey, str]:
    """Revoke a key and issue its like; returns the new key and its secret.

    Raises StateError for a key that is revoked already.
    """
    if not revoke_keys(actor, [key]):
        raise StateError(f"The key {key} is revoked: issue a new one.")
    return issue_key(
        key.account, key.user, role=key.role, name=key.name, expires_at=key.expires_at, by=actor
    )
