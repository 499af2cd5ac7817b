"""Show the list of evaluations, and an evaluation's page: its criteria, its schema, its runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import OuterRef, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.evaluations.models import Criterion, Evaluation, Run
from apps.strict_json import parse_json
from evalplatform.sessions import in_account_of, in_any_account, signed_in
from evalplatform.web import items
from evalplatform.web.charts import RunView
from evalplatform.web.paging import finder, newest_first, page_of
from evalplatform.web.runs import RunFilter, runs_context, views_of

ORDER = newest_first(Evaluation)
CRITERIA_SHOWN = 4


@dataclass(frozen=True)
class EvaluationLine:
    """An evaluation with its criteria and its newest run."""

    evaluation: Evaluation
    criteria: Sequence[Criterion]
    newest: RunView | None

    @property
    def more(self) -> int:
        return max(0, len(self.criteria) - CRITERIA_SHOWN)


@dataclass(frozen=True)
class CriterionView:
    criterion: Criterion
    settings: Sequence[items.Field]


@signed_in
@require_safe
def evaluations(request: HttpRequest, actor: Actor) -> HttpResponse:
    rows = Evaluation.objects.visible_to(actor).present().with_criteria()
    page = page_of(finder(rows, ORDER), ORDER, request.GET)
    views = _newest_runs(page.rows)
    lines = [
        EvaluationLine(row, row.criteria_of(row.criteria_version), views.get(row.pk))
        for row in page.rows
    ]
    return render(request, "web/evaluations.html", {"page": page, "lines": lines})


def _newest_runs(evaluations: Sequence[Evaluation]) -> dict[UUID, RunView]:
    """Return the newest run of each evaluation that has one, by the evaluation's id."""
    runs = newest_first(Run).apply(Run.objects.present().filter(evaluation=OuterRef("pk")))
    shown = Evaluation.objects.filter(pk__in=[one.pk for one in evaluations])
    newest = list(shown.values_list(Subquery(runs.values("pk")[:1]), flat=True))
    found = Run.objects.filter(pk__in=newest).select_related("evaluation")
    return {view.run.evaluation_id: view for view in views_of(list(found))}


@signed_in
@require_safe
def evaluation(request: HttpRequest, actor: Actor, evaluation_id: UUID) -> HttpResponse:
    visible = Evaluation.objects.visible_to(in_any_account(actor)).present()
    related = visible.select_related("account", "created_by").with_criteria()
    found = get_object_or_404(related, pk=evaluation_id)
    actor = in_account_of(request, actor, found)
    criteria = found.criteria_of(found.criteria_version)
    schema = found.read_item_schema()
    context = {
        "evaluation": found,
        "criteria": [
            CriterionView(one, items.settings_of(one.read_settings())) for one in criteria
        ],
        "schema": items.part_of(schema) if schema else None,
        "metadata": items.fields_of(parse_json(found.metadata)),
        "hides_evaluation": True,
        "may_change": actor.may(Action.EDIT, found.account) and found.read_scorers() is None,
        **runs_context(request, actor, RunFilter(evaluation=found.pk)),
    }
    return render(request, "web/evaluation.html", context)
