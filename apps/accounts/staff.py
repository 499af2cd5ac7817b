"""Tell who works in the admin, and what they may do there."""

from dataclasses import replace

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.accounts.models import Account, Actor
from apps.accounts.roles import ALLOWED, Action
from apps.accounts.services.actors import operator
from apps.errors import LimitError, StateError

REFUSALS = (ValidationError, ObjectDoesNotExist, StateError, LimitError)


def actor_in(request: HttpRequest, account: Account | None = None) -> Actor:
    """Return the actor of a request to the admin, with this account selected."""
    user = request.user
    assert not isinstance(user, AnonymousUser)
    request_id = getattr(request, "request_id", "")
    if user.is_superuser:
        return operator(user, account, request_id)
    actor = getattr(request, "_operator", None) or operator(user, None, request_id)
    request._operator = actor  # type: ignore[attr-defined]  # ours
    return replace(actor, account=account)


def may(request: HttpRequest, action: Action, account: Account | None = None) -> bool:
    """Tell whether the user may do this in the account; without one, in some account."""
    if not request.user.is_active or not request.user.is_staff:
        return False
    if request.user.is_superuser:
        return True
    actor = actor_in(request, account)
    if account is not None:
        return actor.may(action)
    return any(action in ALLOWED[role] for role in actor.roles.values())


def accounts_allowing(request: HttpRequest, action: Action) -> QuerySet[Account]:
    """Return the accounts in which the user may do this, by name."""
    accounts = Account.objects.order_by("name")
    if request.user.is_superuser:
        return accounts
    roles = actor_in(request).roles
    return accounts.filter(pk__in=[pk for pk, role in roles.items() if action in ALLOWED[role]])


def reason_of(error: Exception) -> str:
    return " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
