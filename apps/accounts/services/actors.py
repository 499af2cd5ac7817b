"""Find the actor behind a session, a key, an operator at the command line or in the admin."""

from datetime import timedelta
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.utils import timezone

from apps.accounts.models import Account, Actor, ApiKey, Membership, User
from apps.accounts.roles import Role, weaker
from apps.accounts.services.accounts import find_account, require_open
from apps.accounts.services.keys import hash_of
from apps.errors import StateError
from apps.prepared import Prepared

MANAGERS = (Role.OWNER, Role.ADMIN)
# A key's last use is written at most this often: a poll must not become a write.
LAST_USED_GRAIN = timedelta(minutes=1)
USER = [field.attname for field in User._meta.concrete_fields]
ACCOUNT = [field.attname for field in Account._meta.concrete_fields]
# Every request with a key begins with it.
_KEY = Prepared(
    lambda secret_hash, now: (
        ApiKey.objects.usable(now)
        .filter(secret_hash=secret_hash, user__memberships__account=models.F("account"))
        .values_list(
            *("pk", "role", "user__memberships__role", "last_used_at"),
            *(f"user__{name}" for name in USER),
            *(f"account__{name}" for name in ACCOUNT),
        )
        .order_by()
    )
)


def roles_of(user: User) -> dict[UUID, str]:
    """Return the user's role in each of their accounts that is not disabled."""
    return dict(
        Membership.objects.filter(user=user, account__disabled_at=None).values_list(
            "account_id", "role"
        )
    )


def actor_for_user(
    user: User | AnonymousUser, account_id: UUID | str | None = None, request_id: str = ""
) -> Actor | None:
    """Return the actor of a signed-in user, with an account selected; None when not signed in.

    Without a valid choice the first account by name is selected.
    """
    if not isinstance(user, User) or not user.is_active:
        return None
    roles = roles_of(user)
    accounts = list(Account.objects.filter(pk__in=roles).order_by("name"))
    chosen = next((account for account in accounts if str(account.pk) == str(account_id)), None)
    return Actor(user, chosen or (accounts[0] if accounts else None), roles, request_id)


def actor_for_key(secret: str, request_id: str = "") -> Actor | None:
    """Return the actor behind a key, confined to the key's account; None for an unusable key."""
    now = timezone.now()
    row = _KEY.first(secret_hash=hash_of(secret), now=now)
    if row is None:
        return None
    pk, key_role, member_role, last_used_at, *others = row
    user = User.from_db(_KEY.alias, USER, others[: len(USER)])
    account = Account.from_db(_KEY.alias, ACCOUNT, others[len(USER) :])
    if last_used_at is None or last_used_at < now - LAST_USED_GRAIN:
        ApiKey.objects.filter(pk=pk).update(last_used_at=now)
    return Actor(user, account, {account.pk: weaker(key_role, member_role)}, request_id)


def actor_of(account_name: str, email: str | None = None) -> Actor:
    """Return the actor for an operator at the command line: this member, else an owner or admin.

    Raises ObjectDoesNotExist for an unknown account or member, StateError for a disabled account
    or one that nobody manages.
    """
    account = find_account(account_name)
    require_open(account)
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
    """Return the actor of somebody in the admin: a superuser is an owner of whichever account."""
    if user.is_superuser:
        return Actor(user, account, {account.pk: Role.OWNER} if account else {}, request_id)
    return Actor(user, account, roles_of(user), request_id)
