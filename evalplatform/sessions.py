"""Turn a browser's session into an actor, and remember the account that is selected in it."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, wraps
from typing import Any, Concatenate, ParamSpec

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache

from apps.accounts.models import Account, Actor, OwnedModel
from apps.accounts.services.actors import actor_for_user

# Under this name a browser's session keeps the account that is selected in it.
SELECTED_ACCOUNT = "account_id"


def request_id_of(request: Any) -> str:
    """Return the id that the middleware gave the request, empty where there was none."""
    return getattr(request, "request_id", "")


P = ParamSpec("P")
Page = Callable[Concatenate[HttpRequest, Actor, P], HttpResponse]
ACCOUNT = "account"  # in a query string: the account to look at, whatever is selected


def actor_of(request: HttpRequest) -> Actor | None:
    """Return the session's actor, looked up once a request; None when nobody is signed in."""
    if not hasattr(request, "actor"):
        selected = request.GET.get(ACCOUNT) or request.session.get(SELECTED_ACCOUNT)
        actor = actor_for_user(request.user, selected, request_id_of(request))
        request.actor = actor  # type: ignore[attr-defined]  # ours
    return request.actor  # type: ignore[attr-defined]  # ours


def signed_in(page: Page[P]) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Pass a page its actor; redirect to sign in, and back afterwards, where there is none."""

    @never_cache
    @wraps(page)
    def answer(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        actor = actor_of(request)
        if actor is None:
            # What was to be posted is not repeated.
            is_read = request.method in {"GET", "HEAD"}
            return redirect_to_login(request.get_full_path() if is_read else reverse("web:runs"))
        return page(request, actor, *args, **kwargs)

    return answer


def in_account_of(request: HttpRequest, actor: Actor, row: OwnedModel) -> Actor:
    """Return the actor in the account of a row, which becomes the selected one of the session.

    Otherwise a link to a run in another of one's accounts would lead nowhere.
    """
    if actor.account == row.account:
        return actor
    request.session[SELECTED_ACCOUNT] = str(row.account_id)
    moved = replace(actor, account=row.account)
    request.actor = moved  # type: ignore[attr-defined]  # ours
    return moved


def in_any_account(actor: Actor) -> Actor:
    """Return the actor with no account selected, who sees the rows of all of theirs."""
    return replace(actor, account=None)


class AccountChoice:
    """The accounts that the header offers; it queries only when a template reads them."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @property
    def _actor(self) -> Actor | None:
        # Pages of errors may be shown before there is a session.
        return actor_of(self._request) if hasattr(self._request, "user") else None

    @property
    def selected(self) -> Account | None:
        return self._actor.account if self._actor else None

    @cached_property
    def accounts(self) -> list[Account]:
        actor = self._actor
        if actor is None or len(actor.roles) < 2:
            return [actor.account] if actor and actor.account else []
        return list(Account.objects.visible_to(in_any_account(actor)))


def account_choice(request: HttpRequest) -> dict[str, Any]:
    """Give every template an AccountChoice, as a context processor."""
    return {"account_choice": AccountChoice(request)}
