"""The admin of runs: to watch, cancel, retry and grade them again."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.accounts.admin_display import NOTHING, FoundById, as_uuid, is_list, pretty, table
from apps.accounts.models import Actor
from apps.accounts.owned_admin import AccountFilter
from apps.accounts.staff import REFUSALS, actor_in, may, reason_of
from apps.evaluations.admin.criteria import criteria_page
from apps.evaluations.admin.shown import cost_text, money_text, rate_text
from apps.evaluations.forms import RegradeForm
from apps.evaluations.models import Run
from apps.evaluations.reports import Counts, Summary, count_results, summary
from apps.evaluations.services.regrades import is_regradable, regrade_run
from apps.evaluations.services.runs import cancel_run, delete_run, retry_errored
from apps.grading.statistics import rate

NEWEST = 1_000


class DialectFilter(admin.SimpleListFilter):
    """Filter by a dialect of the newest runs; to find all would take a walk over the table."""

    title = parameter_name = "dialect"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        runs = model_admin.get_queryset(request).order_by("-pk")
        dialects = sorted(set(runs.values_list("dialect", flat=True)[:NEWEST]))
        return [(dialect, dialect) for dialect in dialects if dialect]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(dialect=self.value()) if self.value() else queryset


class EvaluationFilter(admin.SimpleListFilter):
    """Filter by the evaluation that a link names; there may be too many to offer."""

    title = parameter_name = "evaluation"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = as_uuid(request.GET.get("evaluation", ""))
        return [(str(chosen), "the chosen one")] if chosen else []

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        chosen = as_uuid(self.value() or "")
        return queryset.filter(evaluation=chosen) if chosen else queryset


class RunList(ChangeList):
    """A list that counts the results of all runs on its page by one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        runs: Any = list(self.result_list)
        counts = count_results(runs)
        for run in runs:
            run.counts = counts[run.pk]
        self.result_list = runs


@admin.register(Run)
class RunAdmin(FoundById):
    deletes = True
    list_display = (
        "name",
        "model",
        "state",
        "counts_shown",
        "rate_shown",
        "links",
        "evaluation",
        "account",
        "created_at",
    )
    list_filter = (
        AccountFilter,
        "state",
        DialectFilter,
        ("created_at", admin.DateFieldListFilter),
        EvaluationFilter,
    )
    search_fields = ("name", "model", "evaluation__name")
    ordering = ("-id",)
    actions = ("cancel", "retry", "regrade")
    outcome = (
        "name",
        "links",
        "account",
        "evaluation",
        "model",
        "state",
        "error_shown",
        "counts_shown",
        "rate_shown",
        "criteria_shown",
        "usage_shown",
        "cost_shown",
        "regrade_shown",
    )
    start = (
        "id",
        "dialect",
        "criteria_version",
        "source_shown",
        "row_count",
        "repeats",
        "max_calls",
        "budget",
        "endpoint",
        "target_shown",
        "on_error",
        "on_empty",
        "metadata_shown",
        "spec_shown",
        "retry_of",
        "answers_of",
    )
    fieldsets = (
        (None, {"fields": outcome}),
        ("How it was started", {"fields": start}),
        ("When", {"fields": ("created_by", "created_at", "started_at", "finished_at")}),
    )
    readonly_fields = (
        "links",
        "regrade_shown",
        "error_shown",
        "counts_shown",
        "rate_shown",
        "criteria_shown",
        "usage_shown",
        "cost_shown",
        "source_shown",
        "target_shown",
        "metadata_shown",
        "spec_shown",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows: Any = super().get_queryset(request)
        runs = rows.present().select_related("evaluation", "account")
        if is_list(request):
            return runs
        return runs.select_related(
            "created_by",
            "endpoint",
            "retry_of",
            "answers_of",
            "source_file",
            "source_version__dataset",
        ).defer("endpoint__api_key")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RunList

    def has_edit_permission(self, request: HttpRequest) -> bool:
        return may(request, self.change_action)

    def remove(self, request: HttpRequest, obj: Run) -> None:
        delete_run(actor_in(request, obj.account), obj)

    @admin.action(description="Cancel: what is done stays", permissions=["edit"])
    def cancel(self, request: HttpRequest, queryset: QuerySet) -> None:
        self._each(request, queryset, cancel_run, "canceled")

    @admin.action(description="Retry what is errored, in a new run", permissions=["edit"])
    def retry(self, request: HttpRequest, queryset: QuerySet) -> None:
        self._each(request, queryset, retry_errored, "a new run retries what is errored in it")

    @admin.action(description="Grade again by the present criteria", permissions=["edit"])
    def regrade(self, request: HttpRequest, queryset: QuerySet) -> None:
        self._each(request, queryset, regrade_run, "a new run grades its answers again")

    def get_urls(self) -> list:
        view = self.admin_site.admin_view(self.regrade_view)
        page = path("<uuid:pk>/regrade/", view, name="evaluations_run_regrade")
        return [page, *super().get_urls()]

    def regrade_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Grade a run again by other criteria, after a trial on some of its rows."""
        run = get_object_or_404(self.get_queryset(request), pk=pk)
        if not may(request, self.change_action, run.account):
            raise PermissionDenied
        form = RegradeForm(actor_in(request, run.account), run, request.POST or None)
        if request.method == "POST" and "try" not in request.POST and (again := form.start()):
            self.message_user(request, f"{again.name} grades its answers.", messages.SUCCESS)
            return redirect("admin:evaluations_run_change", again.pk)
        title = f"Grade again: {run.name}"
        return criteria_page(self, request, run, form, title=title, submit="Start grading")

    def _each(
        self,
        request: HttpRequest,
        queryset: QuerySet,
        service: Callable[[Actor, Run], Run],
        done: str,
    ) -> None:
        """Call a service for each run separately, and show the outcome of each."""
        for run in self.each_allowed(request, queryset):
            try:
                service(actor_in(request, run.account), run)
            except REFUSALS as error:
                self.message_user(request, f"{run.name}: {reason_of(error)}", messages.ERROR)
            else:
                self.message_user(request, f"{run.name}: {done}.", messages.SUCCESS)

    @admin.display(description="more")
    def links(self, run: Run) -> SafeString:
        results = reverse("admin:evaluations_result_changelist")
        return format_html(
            '<a href="{}?run={}">results</a>, <a href="/app/runs/{}/">page</a>',
            results,
            run.pk,
            run.pk,
        )

    @admin.display(description="by other criteria")
    def regrade_shown(self, run: Run) -> SafeString | str:
        if not is_regradable(run):
            return NOTHING
        url = reverse("admin:evaluations_run_regrade", args=[run.pk])
        return format_html('<a href="{}">grade its answers again</a>', url)

    @admin.display(description="results")
    def counts_shown(self, run: Run) -> str:
        counts = _counts(run)
        words = (
            (counts.passed, "passed"),
            (counts.failed, "failed"),
            (counts.errored, "errored"),
            (counts.unjudged, "not judged"),
        )
        text = ", ".join(f"{count:,} {word}" for count, word in words if count) or "none"
        return f"{text} of {run.total_count:,}" if run.total_count else text

    @admin.display(description="rate (95 % interval)")
    def rate_shown(self, run: Run) -> str:
        counts = _counts(run)
        return rate_text(rate(counts.passed, counts.passed + counts.failed))

    @admin.display(description="error")
    def error_shown(self, run: Run) -> str:
        return f"{run.error_code}: {run.error_message}" if run.error_code else NOTHING

    @admin.display(description="criteria")
    def criteria_shown(self, run: Run) -> SafeString:
        return table(
            ("criterion", "kind", "rate (95 % interval)", "errored", "mean score"),
            (
                (
                    line.criterion.name,
                    line.criterion.kind,
                    rate_text(rate(line.passed, line.passed + line.failed)),
                    f"{line.errored:,}",
                    f"{line.total / line.scored:.4g}" if line.scored else NOTHING,
                )
                for line in _summary(run).criteria
            ),
        )

    @admin.display(description="usage")
    def usage_shown(self, run: Run) -> SafeString:
        return table(
            ("model", "for", "calls", "tokens in", "of them cached", "tokens out", "cost"),
            (
                (
                    line.usage.model,
                    "judgements" if line.is_judging else "answers",
                    f"{line.usage.calls:,}",
                    f"{line.usage.prompt_tokens:,}",
                    f"{line.usage.cached_tokens:,}",
                    f"{line.usage.completion_tokens:,}",
                    money_text(line.amount),
                )
                for line in _summary(run).spending.models
            ),
        )

    @admin.display(description="cost")
    def cost_shown(self, run: Run) -> str:
        spending = _summary(run).spending
        if not spending.models:
            return NOTHING
        return (
            f"{cost_text(spending.total)}: answers {cost_text(spending.answers)}, "
            f"judges {cost_text(spending.judges)}"
        )

    @admin.display(description="source")
    def source_shown(self, run: Run) -> str:
        if run.source_version is not None:
            return f"dataset {run.source_version}"
        if run.source_file is None:
            return NOTHING
        file = run.source_file
        return "rows in the request" if file.is_inline else f"file {file.filename}"

    @admin.display(description="target")
    def target_shown(self, run: Run) -> SafeString | str:
        return pretty(run.target)

    @admin.display(description="metadata")
    def metadata_shown(self, run: Run) -> SafeString | str:
        return pretty(run.metadata)

    @admin.display(description="spec")
    def spec_shown(self, run: Run) -> SafeString | str:
        return pretty(run.spec)


def _summary(run: Any) -> Summary:
    """Read a run's summary once a page."""
    if not hasattr(run, "summary"):
        run.summary = summary(run)
    return run.summary


def _counts(run: Any) -> Counts:
    return run.counts if hasattr(run, "counts") else _summary(run).counts
