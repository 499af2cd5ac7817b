"""Test the model servers of a run from its page, as the admin does from a server's."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from apps.accounts.models import Actor
from apps.evaluations.targets import endpoints_of_run
from apps.inference.looking import try_endpoint
from apps.inference.models import ModelEndpoint
from evalplatform.sessions import in_account_of, signed_in
from evalplatform.web.results import run_of


@require_POST
@signed_in
def test_servers(request: HttpRequest, actor: Actor, run_id: UUID) -> HttpResponse:
    """Ask each server of the run's models for its list and each model for a word; say what came."""
    found = run_of(actor, run_id)
    actor = in_account_of(request, actor, found)
    endpoints = ModelEndpoint.objects.visible_to(actor).filter(pk__in=endpoints_of_run(found))
    for endpoint in endpoints.select_related("account").order_by("created_at"):
        for tried in try_endpoint(actor, endpoint):
            show = messages.success if tried.is_good else messages.error
            show(request, f"{endpoint.base_url}: {tried.words}")
    return redirect("web:run", found.pk)
