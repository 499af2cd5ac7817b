"""Show the list of datasets, and a dataset's page: its versions and the cases of the newest."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.datasets.models import Dataset, TestCase
from apps.strict_json import parse_json
from evalplatform.sessions import in_account_of, in_any_account, signed_in
from evalplatform.web import items
from evalplatform.web.paging import Order, finder, newest_first, page_of

ORDER = newest_first(Dataset)
# Within one version a position is one case.
CASES = Order(TestCase, ("position",))
CASES_SHOWN = 25
VERSIONS_SHOWN = 20
COLUMNS = 6


@dataclass(frozen=True)
class CaseLine:
    """A case as a row of the table. cells: columns with their values. item, sample: all of it."""

    number: int
    cells: list[tuple[str, str]]
    item: items.Part
    sample: items.Part | None


@signed_in
@require_safe
def datasets(request: HttpRequest, actor: Actor) -> HttpResponse:
    rows = Dataset.objects.visible_to(actor).present()
    context = {
        "page": page_of(finder(rows, ORDER), ORDER, request.GET),
        "account": actor.account,
        "may_import": actor.account is not None and actor.may(Action.EDIT),
    }
    return render(request, "web/datasets.html", context)


@signed_in
@require_safe
def dataset(request: HttpRequest, actor: Actor, dataset_id: UUID) -> HttpResponse:
    visible = Dataset.objects.visible_to(in_any_account(actor)).present()
    found = get_object_or_404(visible.select_related("account"), pk=dataset_id)
    actor = in_account_of(request, actor, found)
    newest = found.newest_version()
    cases = newest.cases() if newest else TestCase.objects.none()
    page = page_of(finder(cases, CASES), CASES, request.GET, size=CASES_SHOWN)
    values = [parse_json(case.item) for case in page.rows]
    columns = _columns(values)
    context = {
        "dataset": found,
        "may_import": actor.may(Action.EDIT, found.account),
        "newest": newest,
        "versions": found.versions.select_related("created_by")[:VERSIONS_SHOWN],
        "page": page,
        "columns": columns,
        "cases": [_line(case, item, columns) for case, item in zip(page.rows, values, strict=True)],
    }
    return render(request, "web/dataset.html", context)


def _columns(values: list[dict[str, Any]]) -> list[str]:
    """Return the first fields that these cases have, in the order in which they have them."""
    names = {name: None for value in values for name in value}
    return list(names)[:COLUMNS]


def _line(case: TestCase, item: dict[str, Any], columns: list[str]) -> CaseLine:
    sample = items.part_of(parse_json(case.sample)) if case.sample else None
    cells = [(name, items.as_text(item.get(name))) for name in columns]
    return CaseLine(case.position, cells, items.part_of(item), sample)
