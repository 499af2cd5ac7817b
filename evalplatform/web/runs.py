"""Show the list of runs and a run's page, and cancel or retry a run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.errors import StateError
from apps.evaluations.models import Evaluation, Result, Run
from apps.evaluations.reports import refused_forms, summarize, summary
from apps.evaluations.services.estimates import estimate_retry
from apps.evaluations.services.regrades import is_regradable
from apps.evaluations.services.runs import cancel_run, retry_errored
from apps.evaluations.services.spending import this_month
from apps.evaluations.targets import endpoints_of_run, target_of_run
from apps.inference.paces import waits
from apps.inference.served_models import renamed_models
from apps.strict_json import parse_json
from evalplatform.sessions import ACCOUNT, in_account_of, signed_in
from evalplatform.web import items
from evalplatform.web.charts import RunView, view_of
from evalplatform.web.paging import (
    Page,
    finder,
    newest_first,
    page_of,
    with_query,
)
from evalplatform.web.results import results_context, run_of

GOING = "going"
STATES = [
    ("", "Any state"),
    (GOING, "Queued or running"),
    *((state.value, state.label) for state in Run.State if state in Run.FINAL),
]
EVALUATIONS_OFFERED = 50
FOLLOWERS = 5  # runs made from a run that its page names
# An id at the end of what was typed, with or without its dashes and a caller's prefix.
ID = re.compile(r"([0-9a-f]{32})$")
ORDER = newest_first(Run)
# What a run's page names beside the run.
SHOWN = ("source_file", "source_version__dataset", "created_by", "retry_of", "answers_of")


@dataclass(frozen=True)
class RunFilter:
    """A choice of runs: by state, by text, by evaluation."""

    state: str = ""
    text: str = ""
    evaluation: UUID | None = None

    @classmethod
    def of(cls, query: QueryDict) -> "RunFilter":
        state = query.get("state", "")
        text = query.get("q", "").replace("\0", "").strip()
        return cls(state if state in dict(STATES) else "", text, uuid_of(query.get("evaluation")))

    def __bool__(self) -> bool:
        return bool(self.state or self.text or self.evaluation)

    def apply(self, runs: QuerySet[Run]) -> QuerySet[Run]:
        if self.state == GOING:
            runs = runs.filter(state__in=(Run.State.QUEUED, Run.State.RUNNING))
        elif self.state:
            runs = runs.filter(state=self.state)
        if self.evaluation:
            runs = runs.filter(evaluation=self.evaluation)
        if self.text:
            wanted = (
                Q(name__icontains=self.text)
                | Q(model__icontains=self.text)
                | Q(evaluation__name__icontains=self.text)
            )
            if found := ID.search(self.text.lower().replace("-", "")):
                pk = UUID(found[1])
                wanted |= Q(pk=pk) | Q(evaluation=pk)
            runs = runs.filter(wanted)
        return runs


@dataclass(frozen=True)
class FirstError:
    """The first errored result of a run and its reason, which is often that of all of them."""

    result: Result
    code: str
    message: str


def uuid_of(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


@signed_in
@require_safe
def runs(request: HttpRequest, actor: Actor) -> HttpResponse:
    evaluations = Evaluation.objects.visible_to(actor).present()
    narrowed = RunFilter.of(request.GET)
    offered = list(newest_first(Evaluation).apply(evaluations)[:EVALUATIONS_OFFERED])
    chosen = narrowed.evaluation
    if chosen and all(one.pk != chosen for one in offered):
        offered += evaluations.filter(pk=chosen)
    context = {
        "filter": narrowed,
        "states": STATES,
        "evaluations": offered,
        "month": this_month(actor, actor.account) if actor.account else None,
        **runs_context(request, actor, narrowed),
    }
    return render(request, "web/runs.html", context)


@signed_in
@require_safe
def runs_live(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show the lines of the list alone, which the page polls."""
    context = runs_context(request, actor, RunFilter.of(request.GET))
    return render(request, "web/_runs.html", context)


def runs_context(request: HttpRequest, actor: Actor, narrowed: RunFilter) -> dict[str, Any]:
    query = request.GET.copy()
    query.pop(ACCOUNT, None)
    if narrowed.evaluation:
        query["evaluation"] = str(narrowed.evaluation)
    visible = Run.objects.visible_to(actor).present().select_related("evaluation")
    page: Page[Run] = page_of(finder(narrowed.apply(visible), ORDER), ORDER, query)
    views = views_of(page.rows)
    account = str(actor.account.pk) if actor.account else ""
    return {
        "page": page,
        "views": views,
        "is_narrowed": bool(narrowed),
        # Another tab may select another account: this list goes on showing its own.
        "live_url": reverse("web:runs_live") + with_query(query, **{ACCOUNT: account}),
        "is_live": any(not run.is_final for run in page.rows),
        "is_fresh": page.is_first,
        "clear_url": reverse("web:runs"),
        "api_url": request.build_absolute_uri("/v1"),
    }


def views_of(runs: Sequence[Run]) -> list[RunView]:
    if not runs:
        return []
    now = timezone.now()
    summaries = summarize(runs)
    return [view_of(summaries[run.pk], now) for run in runs]


@signed_in
@require_safe
def run(request: HttpRequest, actor: Actor, run_id: UUID) -> HttpResponse:
    found = run_of(actor, run_id, *SHOWN)
    actor = in_account_of(request, actor, found)
    context = run_context(actor, found)
    context |= results_context(request, context["view"].summary)
    # Outside of what refreshes: rows are read for it.
    context["refused_forms"] = refused_forms(found)
    context["estimate"] = estimate_retry(actor, found) if context["may_retry"] else None
    return render(request, "web/run.html", context)


@signed_in
@require_safe
def run_live(request: HttpRequest, actor: Actor, run_id: UUID) -> HttpResponse:
    """Show the part of a run's page that changes while it is going, but for the results."""
    return render(request, "web/_run.html", run_context(actor, run_of(actor, run_id, *SHOWN)))


def run_context(actor: Actor, run: Run) -> dict[str, Any]:
    view = view_of(summary(run), timezone.now())
    may_edit = actor.may(Action.EDIT, run.account)
    counts = view.summary.counts
    is_incomplete = counts.errored > 0 or counts.done < run.total_count
    prompt, endpoints = target_of_run(run).prompt, endpoints_of_run(run)
    return {
        "run": run,
        "view": view,
        "renamed": renamed_models(run.read_target()),
        "is_live": not run.is_final,
        "waits": [] if run.is_final else waits(endpoints),
        "live_url": reverse("web:run_live", args=[run.pk]),
        "may_test": bool(endpoints) and actor.may(Action.MANAGE, run.account),
        "may_cancel": may_edit and not run.is_final,
        "may_retry": may_edit and run.is_final and is_incomplete,
        "may_regrade": may_edit and is_regradable(run),
        "retried_from": _if_there(run.retry_of),
        "regraded_from": _if_there(run.answers_of),
        "may_edit": may_edit,
        "first_error": _first_error(run) if counts.errored else None,
        "has_means": view.has_means,
        "metadata": items.fields_of(parse_json(run.metadata)),
        "asked": items.messages_of(prompt.messages if prompt else None),
        "asked_from": prompt.reference if prompt else None,
        "params": items.fields_of(prompt.params if prompt else {}),
        "retries": run.retries.present().order_by("created_at", "id")[:FOLLOWERS],
        "regrades": run.regrades.present().order_by("created_at", "id")[:FOLLOWERS],
    }


def _if_there(run: Run | None) -> Run | None:
    return run if run and run.deleted_at is None else None


def _first_error(run: Run) -> FirstError | None:
    result = Result.objects.of_run(run).first_errored()
    reason = result.reason() if result else None
    return FirstError(result, reason.code, reason.message) if result and reason else None


@require_POST
@signed_in
def cancel(request: HttpRequest, actor: Actor, run_id: UUID) -> HttpResponse:
    found = run_of(actor, run_id)
    try:
        cancel_run(actor, found)
    except StateError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, "The run is canceled. What was done until now stays.")
    return redirect("web:run", found.pk)


@require_POST
@signed_in
def retry(request: HttpRequest, actor: Actor, run_id: UUID) -> HttpResponse:
    found = run_of(actor, run_id)
    try:
        again = retry_errored(actor, found)
    except StateError as error:
        messages.error(request, str(error))
        return redirect("web:run", found.pk)
    messages.success(request, "This new run keeps what was finished and asks again for the rest.")
    return redirect("web:run", again.pk)
