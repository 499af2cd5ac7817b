"""Open, rename, disable and find accounts."""

from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Account, Actor, Membership, User
from apps.accounts.roles import Action, Role
from apps.accounts.services.audit import record
from apps.errors import Invalid, StateError, Unfit


def find_account(name: str) -> Account:
    """Return the account of this name. Raises ObjectDoesNotExist."""
    account = Account.objects.filter(name=name).first()
    if account is None:
        raise Account.DoesNotExist(f"There is no account named {name!r}.")
    return account


def require_open(account: Account) -> None:
    if account.disabled_at is not None:
        raise StateError(f"The account {account} is disabled.")


@transaction.atomic
def open_account(user: User, *, name: str) -> Account:
    """Create an account of `user`. Raises Invalid for an empty name, Unfit for a taken one."""
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
