"""The admin of evaluations with their criteria."""

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.accounts.admin_display import FoundById, pretty
from apps.accounts.owned_admin import AccountFilter
from apps.accounts.roles import Action
from apps.accounts.staff import actor_in, may
from apps.evaluations.admin.criteria import criteria_page
from apps.evaluations.forms import ChangeForm
from apps.evaluations.models import Criterion, Evaluation
from apps.evaluations.services.evaluations import delete_evaluation


class CriterionInline(admin.TabularInline):
    model = Criterion
    fields = readonly_fields = ("version", "position", "kind", "name", "key", "settings_shown")
    ordering = ("-version", "position")
    extra = max_num = 0
    can_delete = False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, Action.READ, obj and obj.account)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    has_change_permission = has_delete_permission = has_add_permission

    @admin.display(description="settings")
    def settings_shown(self, criterion: Criterion) -> SafeString | str:
        return pretty(criterion.settings)


@admin.register(Evaluation)
class EvaluationAdmin(FoundById):
    deletes = True
    list_display = (
        "name",
        "account",
        "call_name",
        "dialect",
        "runs_link",
        "created_by",
        "created_at",
    )
    list_select_related = ("account", "created_by")
    list_filter = (AccountFilter, "has_sample", ("created_at", admin.DateFieldListFilter))
    search_fields = ("name", "call_name")
    ordering = ("-id",)
    inlines = (CriterionInline,)
    fields = (
        "name",
        "account",
        "id",
        "call_name",
        "runs_link",
        "dialect",
        "version_shown",
        "has_sample",
        "item_schema_shown",
        "metadata_shown",
        "spec_shown",
        "created_by",
        "created_at",
        "updated_at",
        "archived_at",
    )
    readonly_fields = (
        "runs_link",
        "version_shown",
        "item_schema_shown",
        "metadata_shown",
        "spec_shown",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows: Any = super().get_queryset(request)
        return rows.present().select_related("account", "created_by")

    def remove(self, request: HttpRequest, obj: Evaluation) -> None:
        delete_evaluation(actor_in(request, obj.account), obj)

    def get_urls(self) -> list:
        view = self.admin_site.admin_view(self.criteria_view)
        page = path("<uuid:pk>/criteria/", view, name="evaluations_evaluation_criteria")
        return [page, *super().get_urls()]

    def criteria_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Change the criteria, after a trial on some rows."""
        found = get_object_or_404(self.get_queryset(request), pk=pk)
        if not may(request, self.change_action, found.account):
            raise PermissionDenied
        form = ChangeForm(actor_in(request, found.account), found, request.POST or None)
        if request.method == "POST" and "try" not in request.POST and form.save():
            message = f"Runs from now on have the criteria of version {found.criteria_version}."
            self.message_user(request, message, messages.SUCCESS)
            return redirect("admin:evaluations_evaluation_change", found.pk)
        title = f"Criteria of {found.name}"
        return criteria_page(
            self, request, found, form, title=title, submit="Save as a new version"
        )

    @admin.display(description="criteria version")
    def version_shown(self, evaluation: Evaluation) -> SafeString:
        url = reverse("admin:evaluations_evaluation_criteria", args=[evaluation.pk])
        words = '{} (<a href="{}">try and change the criteria</a>)'
        return format_html(words, evaluation.criteria_version, url)

    @admin.display(description="runs")
    def runs_link(self, evaluation: Evaluation) -> SafeString:
        url = reverse("admin:evaluations_run_changelist")
        return format_html('<a href="{}?evaluation={}">its runs</a>', url, evaluation.pk)

    @admin.display(description="item schema")
    def item_schema_shown(self, evaluation: Evaluation) -> SafeString | str:
        return pretty(evaluation.item_schema)

    @admin.display(description="metadata")
    def metadata_shown(self, evaluation: Evaluation) -> SafeString | str:
        return pretty(evaluation.metadata)

    @admin.display(description="spec")
    def spec_shown(self, evaluation: Evaluation) -> SafeString | str:
        return pretty(evaluation.spec)
