"""Show the results of a run: a table that can be narrowed, and a page for each result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from apps.accounts.models import Actor
from apps.evaluations.models import MOST_ROWS, Criterion, Result, Run, key_in, key_of
from apps.evaluations.reports import (
    Item,
    Summary,
    read_criteria,
    read_items,
    summary,
)
from apps.inference.served_models import renamed_models
from apps.strict_json import parse_json
from evalplatform.sessions import in_account_of, in_any_account, signed_in
from evalplatform.web import items
from evalplatform.web.paging import (
    AFTER,
    BEFORE,
    page_of,
)
from evalplatform.web.result_filter import ORDER, ROW, ResultFilter, tabs_of
from evalplatform.web.verdicts import VerdictView, verdicts_of


@dataclass(frozen=True)
class ResultLine:
    result: Result
    url: str
    line: items.Line
    verdicts: Sequence[VerdictView]


@dataclass(frozen=True)
class Explained:
    """A criterion's verdict with the settings, the exchange and the usage behind it."""

    verdict: VerdictView
    settings: Sequence[items.Field]
    asked: Sequence[items.Message]
    replied: Sequence[items.Part]
    usage: dict[str, Any]
    notes: Sequence[str]

    @property
    def has_filled(self) -> bool:
        return any(field.filled is not None for field in self.settings)


@signed_in
@require_safe
def results_live(request: HttpRequest, actor: Actor, run_id: UUID) -> HttpResponse:
    """Show the table alone, which the page polls while the run is going."""
    context = results_context(request, summary(run_of(actor, run_id)))
    return render(request, "web/_results.html", context)


def run_of(actor: Actor, run_id: UUID, *related: str) -> Run:
    """Find the run in any of the actor's accounts. Raises Http404."""
    runs = Run.objects.visible_to(in_any_account(actor)).present()
    return get_object_or_404(runs.select_related("account", "evaluation", *related), pk=run_id)


def results_context(request: HttpRequest, report: Summary) -> dict[str, Any]:
    run = report.run
    criteria = [line.criterion for line in report.criteria]
    narrowed = ResultFilter.of(run, criteria, request.GET)
    query = _place_in(run, request.GET)
    page = page_of(narrowed.finder(), ORDER, query)
    lines = _lines(run, page.rows, criteria, narrowed)
    return {
        "results": page,
        "lines": lines,
        "shows_expected": any(line.line.expected for line in lines),
        "criteria": criteria,
        "tabs": list(tabs_of(report, narrowed)),
        "filter": narrowed,
        "has_repeats": run.repeats > 1,
        "results_url": f"{reverse('web:results_live', args=[run.pk])}?{query.urlencode()}",
        "is_live": not run.is_final,
        "run": run,
    }


def _place_in(run: Run, query: QueryDict) -> QueryDict:
    """Return the query with the row to go to, if it names one, turned into a place."""
    changed = query.copy()
    wanted = changed.pop(ROW, [""])[-1].strip().replace(",", "")
    is_row = wanted.isdecimal() and len(wanted) < 19
    if is_row and int(wanted) > 0 and AFTER not in query and BEFORE not in query:
        row = min(int(wanted), MOST_ROWS - 1)
        changed[AFTER] = ORDER.write((key_of(run.number, row) - 1,))
    return changed


def _lines(
    run: Run, results: Sequence[Result], criteria: Sequence[Criterion], narrowed: ResultFilter
) -> list[ResultLine]:
    settings = [criterion.read_settings() for criterion in criteria]
    return [
        ResultLine(
            result=item.result,
            url=reverse("web:result", args=[run.pk, item.result.shown_id]) + narrowed.query,
            line=items.line_of(item, settings),
            verdicts=verdicts_of(item, criteria),
        )
        for item in read_items(run, results, criteria)
    ]


@signed_in
@require_safe
def result(request: HttpRequest, actor: Actor, run_id: UUID, result_id: UUID) -> HttpResponse:
    """Show one result between its neighbours in the filter that it was found in."""
    run = run_of(actor, run_id)
    in_account_of(request, actor, run)
    criteria = read_criteria(run)
    found = read_items(run, Result.objects.of_run(run).filter(pk=key_in(result_id)), criteria)
    if not found:
        raise Http404("There is no such result in this run.")
    item = found[0]
    narrowed = ResultFilter.of(run, criteria, request.GET)
    context = {
        "run": run,
        "renamed": renamed_models(run.read_target()),
        "item": item,
        "result": item.result,
        "long_fields": [
            field for field in items.fields_of(item.item) if items.has_lines(field.part)
        ],
        "expected": items.expected_of(item, [one.read_settings() for one in criteria]),
        "answered_by": run.model and ((item.sample or {}).get("model") or run.model),
        "item_json": items.part_of(item.item),
        "asked": items.messages_of(item.exchange.get("input")),
        "answer": items.answer_parts(item),
        "sample_json": items.part_of(item.sample) if item.sample is not None else None,
        "explained": [_explained(one, item) for one in verdicts_of(item, criteria)],
        "usage": item.exchange.get("usage") or {},
        "filter": narrowed,
        "previous": _neighbour(run, item.result, narrowed, backwards=True),
        "next": _neighbour(run, item.result, narrowed, backwards=False),
        "list_url": _list_url(run, item.result, narrowed),
    }
    return render(request, "web/result.html", context)


def _explained(verdict: VerdictView, item: Item) -> Explained:
    kept = verdict.score.exchange if verdict.score else None
    exchange = parse_json(kept) if kept else {}
    replied = items.messages_of([choice.get("message") for choice in exchange.get("choices") or ()])
    return Explained(
        verdict=verdict,
        settings=items.settings_of(verdict.criterion.read_settings(), item),
        asked=items.messages_of(exchange.get("input")),
        replied=[part for message in replied for part in message.parts],
        usage=exchange.get("usage") or {},
        notes=exchange.get("notes") or [],
    )


def _neighbour(run: Run, result: Result, narrowed: ResultFilter, *, backwards: bool) -> str:
    find = narrowed.finder()
    found = find(ORDER.place_of(result), backwards=backwards, limit=1)
    return reverse("web:result", args=[run.pk, found[0].shown_id]) + narrowed.query if found else ""


def _list_url(run: Run, result: Result, narrowed: ResultFilter) -> str:
    """Return the address of the table at this row."""
    words = urlencode({ROW: result.row_index})
    joint = "&" if len(narrowed.query) > 1 else ""
    return f"{reverse('web:run', args=[run.pk])}{narrowed.query}{joint}{words}#results"
