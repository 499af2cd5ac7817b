"""Who looks at a page: sessions become actors, people sign in and out and select an account."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, wraps
from typing import Any, Concatenate, ParamSpec

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from apps.accounts.models import Account, Actor, OwnedModel
from apps.accounts.services import actor_for_user
from evalplatform.dialects.base import SELECTED_ACCOUNT, request_id_of
from evalplatform.web.attempts import Attempts

P = ParamSpec("P")
Page = Callable[Concatenate[HttpRequest, Actor, P], HttpResponse]

ACCOUNT = "account"  # in a query string: the account to look at, whatever is selected
REFUSED = "This e-mail address and password do not belong together."
# Failures of an address from one place, and of all addresses from there.
FAILED_ADDRESSES = Attempts(limit=10, seconds=600)
FAILED_PLACES = Attempts(limit=100, seconds=600)


def actor_of(request: HttpRequest) -> Actor | None:
    """The actor of the session, looked up once a request; None when nobody is signed in."""
    if not hasattr(request, "actor"):
        selected = request.GET.get(ACCOUNT) or request.session.get(SELECTED_ACCOUNT)
        actor = actor_for_user(request.user, selected, request_id_of(request))
        request.actor = actor  # type: ignore[attr-defined]  # ours
    return request.actor  # type: ignore[attr-defined]


def signed_in(page: Page[P]) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """A page that is given its actor; who has not signed in is sent there, and back afterwards."""

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
    """The actor in the account of a row that a link led to, which is the selected one from now on.

    Otherwise a link to a run in another of one's accounts would lead nowhere.
    """
    if actor.account == row.account:
        return actor
    request.session[SELECTED_ACCOUNT] = str(row.account_id)
    moved = replace(actor, account=row.account)
    request.actor = moved  # type: ignore[attr-defined]  # ours
    return moved


def in_any_account(actor: Actor) -> Actor:
    return replace(actor, account=None)


class AccountChoice:
    """The accounts that the header offers; asks the database only when a template does."""

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
    """A context processor; see AccountChoice."""
    return {"account_choice": AccountChoice(request)}


@sensitive_post_parameters("password")
@never_cache
def sign_in(request: HttpRequest) -> HttpResponse:
    """Ask for address and password; on success lead to where somebody wanted to go."""
    goal = _goal(request)
    if request.user.is_authenticated:
        return redirect(goal)
    context: dict[str, Any] = {"next": request.GET.get("next", "")}
    if request.method != "POST":
        return render(request, "web/sign_in.html", context)
    # PostgreSQL takes no NUL.
    email = request.POST.get("email", "").replace("\0", "").strip()[:254]
    context |= {"next": request.POST.get("next", ""), "email": email}
    place = request.META.get("REMOTE_ADDR", "")
    address = (email.lower(), place)
    wait = max(FAILED_ADDRESSES.wait(address), FAILED_PLACES.wait(place))
    if wait:
        context["error"] = f"Too many attempts. Try again in {wait // 60 + 1:.0f} min."
        return render(request, "web/sign_in.html", context, status=429)
    user = authenticate(request, username=email, password=request.POST.get("password", ""))
    if user is None:
        FAILED_ADDRESSES.fail(address)
        FAILED_PLACES.fail(place)
        context["error"] = REFUSED
        return render(request, "web/sign_in.html", context, status=422)
    FAILED_ADDRESSES.forget(address)
    login(request, user)
    return redirect(goal)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("web:sign_in")


@require_POST
def select_account(request: HttpRequest) -> HttpResponse:
    """Look at another account from now on, beginning with its runs."""
    actor = actor_of(request)
    if actor is None:
        return redirect("web:sign_in")
    accounts = Account.objects.visible_to(in_any_account(actor))
    chosen = next((one for one in accounts if str(one.pk) == request.POST.get(ACCOUNT)), None)
    if chosen is None:
        messages.error(request, "You do not belong to that account.")
    else:
        request.session[SELECTED_ACCOUNT] = str(chosen.pk)
    return redirect("web:runs")


def _goal(request: HttpRequest) -> str:
    """Where `next` leads, if that is a page of ours; else the first page."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    is_ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if is_ours else resolve_url(settings.LOGIN_REDIRECT_URL)
