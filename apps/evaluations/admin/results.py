"""The admin of the results of runs."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from apps.accounts.admin_display import NOTHING, as_uuid, block, is_list, pretty, preview, table
from apps.accounts.models import Account
from apps.accounts.owned_admin import OwnedAdmin
from apps.accounts.staff import actor_in
from apps.evaluations.models import MOST_ROWS, Result, Run, number_in
from apps.evaluations.reports import Item, Judgement, read_items

LISTED_RUNS = 30


class RunFilter(admin.SimpleListFilter):
    """Choose the run whose results are listed: one of the newest, or the one in the address."""

    title = parameter_name = "run"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        runs = runs_in(request).order_by("-pk").values_list("pk", "name")[:LISTED_RUNS]
        return [(str(pk), name[:60]) for pk, name in runs]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        # The admin's own queryset is of the chosen run already.
        return queryset


def runs_in(request: HttpRequest) -> QuerySet[Run]:
    runs = Run.objects.present()
    if request.user.is_superuser:
        return runs
    return runs.filter(account__in=actor_in(request).roles)


def chosen_run(request: Any) -> Run | None:
    """Return the run whose results are listed, read once a request."""
    if not hasattr(request, "chosen_run"):
        pk = as_uuid(request.GET.get("run", ""))
        request.chosen_run = runs_in(request).filter(pk=pk).first() if pk else None
    return request.chosen_run


class ResultList(ChangeList):
    """A list that reads the rows and scores of all results on its page together."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        run = chosen_run(request)
        items = read_items(run, self.result_list) if run else []
        self.result_list: Any = [_with_item(item) for item in items]


def _with_item(item: Item) -> Any:
    result: Any = item.result
    result.read = item
    return result


def _item(result: Any) -> Item:
    if not hasattr(result, "read"):
        result.read = read_items(result.run, Result.objects.filter(pk=result.pk))[0]
    return result.read


@admin.register(Result)
class ResultAdmin(OwnedAdmin):
    """The results of one run at a time, in the order of its rows."""

    show_facets = admin.ShowFacets.NEVER
    list_display = ("place", "state", "item_preview", "answer_preview", "verdicts_preview")
    list_filter: ClassVar[Any] = (RunFilter, "state")
    search_fields = ("id",)
    search_help_text = "the index of a row, from 0"
    ordering = ("pk",)
    sortable_by = ()
    fields = (
        "run",
        "row_index",
        "repeat",
        "state",
        "error_code",
        "error_message",
        "item_shown",
        "answer_shown",
        "scores_shown",
        "sample_shown",
        "exchange_shown",
        "created_at",
    )
    readonly_fields = (
        "run",
        "row_index",
        "repeat",
        "created_at",
        "item_shown",
        "answer_shown",
        "scores_shown",
        "sample_shown",
        "exchange_shown",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        results = Result.objects.in_order()
        if is_list(request):
            run = chosen_run(request)
            return results.of_run(run) if run else results.none()
        return results

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """Return the result, None for one of a run that the user does not see."""
        result = super().get_object(request, object_id, from_field)
        if result is None:
            return None
        runs = runs_in(request).filter(evaluation__deleted_at=None)
        return result if runs.filter(number=number_in(result.pk)).exists() else None

    def account_of(self, obj: Any) -> Account:
        return obj.run.account

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ResultList

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[QuerySet, bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        is_index = term.isdecimal() and len(term) < 18
        run = chosen_run(request)
        if not is_index or run is None or int(term) >= MOST_ROWS:
            return queryset.none(), False
        return queryset.in_rows(run, int(term), int(term) + 1), False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        run = chosen_run(request)
        if run is None:
            text = "Choose a run: open its results from the list of runs, or by the filter."
            self.message_user(request, text, messages.INFO)
        title = {"title": f"Results of {run.name}"} if run else {}
        return super().changelist_view(request, {**title, **(extra_context or {})})

    @admin.display(description="row")
    def place(self, result: Result) -> str:
        return f"{result.row_index}" + (f", repeat {result.repeat}" if result.repeat else "")

    @admin.display(description="item")
    def item_preview(self, result: Result) -> str:
        return preview(_item(result).item)

    @admin.display(description="answer")
    def answer_preview(self, result: Result) -> str:
        if result.error_code:
            return preview(f"{result.error_code}: {result.error_message}")
        return preview(_answer(_item(result)))

    @admin.display(description="verdicts")
    def verdicts_preview(self, result: Result) -> str:
        scores = _item(result).scores
        return preview(", ".join(f"{score.criterion.name}: {_verdict(score)}" for score in scores))

    @admin.display(description="item")
    def item_shown(self, result: Result) -> SafeString | str:
        return pretty(_item(result).item)

    @admin.display(description="answer")
    def answer_shown(self, result: Result) -> SafeString:
        return block(_answer(_item(result)))

    @admin.display(description="sample")
    def sample_shown(self, result: Result) -> SafeString | str:
        return pretty(_item(result).sample)

    @admin.display(description="exchange")
    def exchange_shown(self, result: Result) -> SafeString | str:
        return pretty(_item(result).exchange or None)

    @admin.display(description="scores")
    def scores_shown(self, result: Result) -> SafeString:
        return table(
            ("criterion", "verdict", "evidence", "judge's exchange"),
            (
                (
                    f"{score.criterion.name} ({score.criterion.kind})",
                    _verdict(score),
                    block(score.evidence),
                    pretty(score.exchange),
                )
                for score in _item(result).scores
            ),
        )


def _answer(item: Item) -> str:
    text = (item.sample or {}).get("output_text")
    return text if isinstance(text, str) else NOTHING


def _verdict(score: Judgement) -> str:
    if score.value is None:
        error = f"errored, {score.error_code}: {score.error_message}"
        return error if score.error_code else NOTHING
    word = {True: "passed", False: "failed", None: "no verdict"}[score.passed]
    reason = f", {score.error_code}: {score.error_message}" if score.error_code else ""
    return f"{score.value:.6g}, {word}{reason}"
