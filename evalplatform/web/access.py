"""Sign in and out, and select the account to look at."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from apps.accounts.models import Account
from evalplatform.sessions import ACCOUNT, SELECTED_ACCOUNT, actor_of, in_any_account
from evalplatform.web.attempts import Attempts

REFUSED = "This e-mail address and password do not belong together."
# Failures of an address from one place, and of all addresses from there.
FAILED_ADDRESSES = Attempts(limit=10, seconds=600)
FAILED_HOSTS = Attempts(limit=100, seconds=600)


@sensitive_post_parameters("password")
@never_cache
def sign_in(request: HttpRequest) -> HttpResponse:
    """Ask for address and password; on success redirect to the page that was wanted."""
    goal = _goal(request)
    if request.user.is_authenticated:
        return redirect(goal)
    context: dict[str, Any] = {"next": request.GET.get("next", "")}
    if request.method != "POST":
        return render(request, "web/sign_in.html", context)
    # PostgreSQL takes no NUL.
    email = request.POST.get("email", "").replace("\0", "").strip()[:254]
    context |= {"next": request.POST.get("next", ""), "email": email}
    host = request.META.get("REMOTE_ADDR", "")
    address = (email.lower(), host)
    wait = max(FAILED_ADDRESSES.wait(address), FAILED_HOSTS.wait(host))
    if wait:
        context["error"] = f"Too many attempts. Try again in {wait // 60 + 1:.0f} min."
        return render(request, "web/sign_in.html", context, status=429)
    user = authenticate(request, username=email, password=request.POST.get("password", ""))
    if user is None:
        FAILED_ADDRESSES.fail(address)
        FAILED_HOSTS.fail(host)
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
    """Select another account, and show its runs."""
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
    """Return `next` where it is a page of ours, else the first page."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    is_ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if is_ours else resolve_url(settings.LOGIN_REDIRECT_URL)
