"""Edit criteria, try them on rows, and keep them, or grade a run's answers by them."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.errors import StateError
from apps.evaluations.forms import ChangeForm, RegradeForm
from apps.evaluations.models import Evaluation
from apps.evaluations.services.regrades import check_regradable
from evalplatform.sessions import in_account_of, in_any_account, signed_in
from evalplatform.web.results import run_of

TRY = "try"
REFUSED = 422


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def regrade(request: HttpRequest, actor: Actor, run_id: UUID) -> HttpResponse:
    """Grade the answers of a finished run by other criteria, as a new run."""
    run = run_of(actor, run_id)
    actor = in_account_of(request, actor, run)
    actor.require(Action.EDIT, run.account)
    try:
        check_regradable(run)
    except StateError as error:
        messages.error(request, str(error))
        return redirect("web:run", run.pk)
    form = RegradeForm(actor, run, request.POST or None)
    if request.method == "POST":
        if request.POST.get("action") == TRY:
            form.try_out()
        elif again := form.start():
            messages.success(request, "This new run grades the answers of the earlier one.")
            return redirect("web:run", again.pk)
    context = {"run": run, "evaluation": run.evaluation, "estimate": form.estimate()}
    return _shown(request, form, context)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def change(request: HttpRequest, actor: Actor, evaluation_id: UUID) -> HttpResponse:
    """Give an evaluation other criteria, which its next runs have."""
    visible = Evaluation.objects.visible_to(in_any_account(actor)).present()
    found = get_object_or_404(visible.select_related("account"), pk=evaluation_id)
    actor = in_account_of(request, actor, found)
    actor.require(Action.EDIT, found.account)
    form = ChangeForm(actor, found, request.POST or None)
    if request.method == "POST":
        if request.POST.get("action") == TRY:
            form.try_out()
        elif form.save():
            done = f"The criteria of version {found.criteria_version} are in force."
            messages.success(request, f"{done} Runs from now on have them.")
            return redirect("web:evaluation", found.pk)
    return _shown(request, form, {"run": None, "evaluation": found})


def _shown(request: HttpRequest, form: Any, context: dict[str, Any]) -> HttpResponse:
    status = REFUSED if form.errors else 200
    context = {"form": form, "trial": form.trial, **context}
    return render(request, "web/criteria.html", context, status=status)
