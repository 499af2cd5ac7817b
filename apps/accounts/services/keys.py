"""Issue, rotate and revoke the keys by which programs speak for people."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Account, Actor, ApiKey, Membership, User
from apps.accounts.roles import Action, Role, weaker
from apps.accounts.services.accounts import open_account, require_open
from apps.accounts.services.audit import record
from apps.accounts.services.members import user_by_email
from apps.errors import Invalid, StateError, Unfit

KEY_MARK = "ep-"
# Whose keys are those that were made at the command line without naming anybody.
SERVICE_EMAIL = "api@localhost"


def hash_of(secret: str) -> str:
    """Hash a secret: hex SHA-256, which is enough, for no dictionary holds 240 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


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
    """Create a key and return it with its secret, which is never shown again."""
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
    """Issue a key for an operator at the command line; a missing account or user is created.

    Who opens an account owns it. role None: admin, or the member's own where that may do less.
    """
    user = user_by_email(email, is_service=email == SERVICE_EMAIL)
    account = Account.objects.filter(name=account_name.strip()).first()
    account = account or open_account(user, name=account_name)
    require_open(account)
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
    """Revoke keys at once, and return how many had not been revoked before."""
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
    """Revoke a key and issue another with the same role, name and expiry; return it and its secret.

    Raises StateError for a key that is revoked already.
    """
    if not revoke_keys(actor, [key]):
        raise StateError(f"The key {key} is revoked: issue a new one.")
    return issue_key(
        key.account, key.user, role=key.role, name=key.name, expires_at=key.expires_at, by=actor
    )
