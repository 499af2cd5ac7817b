"""The admin of what accounts may spend, beside what they have spent this month."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.accounts.owned_admin import AccountFilter, OwnedAdmin, become
from apps.accounts.roles import Action
from apps.accounts.staff import actor_in
from apps.evaluations.admin.shown import money_text
from apps.evaluations.models import SpendingLimits
from apps.evaluations.services.spending import set_limits, spent_in

LIMITS = ("monthly_budget", "run_budget", "run_max_calls")


class LimitsForm(forms.ModelForm):
    class Meta:
        model = SpendingLimits
        fields = ("account", *LIMITS)


@admin.register(SpendingLimits)
class SpendingLimitsAdmin(OwnedAdmin):
    """Limits of an account. Without any its runs spend what they take."""

    adds = changes = True
    change_action = Action.MANAGE
    form = LimitsForm
    list_display = ("account", *LIMITS)
    list_filter = (AccountFilter,)
    search_fields = ("account__name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).select_related("account")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("account", *LIMITS, "spent_shown") if obj else ("account", *LIMITS)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("account", "spent_shown") if obj else ()

    @admin.display(description="spent this month")
    def spent_shown(self, limits: SpendingLimits) -> str:
        return money_text(spent_in(limits.account))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        given = {name: form.cleaned_data[name] for name in LIMITS}
        become(obj, set_limits(actor_in(request, obj.account), obj.account, **given))
