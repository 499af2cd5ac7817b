"""The base of the admin of all rows that belong to accounts."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.functional import cached_property

from apps.accounts.models import Account
from apps.accounts.roles import Action
from apps.accounts.staff import REFUSALS, accounts_allowing, actor_in, may, reason_of


def with_refusals_shown(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Show what a service refuses as a message over the page from which it was asked."""

    @wraps(view)
    def answer(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(self, request, *args, **kwargs)
        except REFUSALS as error:
            if request.method != "POST":
                raise
            self.message_user(request, reason_of(error), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    return answer


class CappedPaginator(Paginator):
    """Counts no further than CAP, so that a page of a table of millions costs no more than a small
    one's. What lies behind is reached by filters and search.
    """

    CAP = 10_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return rows.order_by()[: self.CAP].count()


class AccountFilter(admin.SimpleListFilter):
    """Filter by one of the accounts that the user may see; the first SHOWN by name are offered."""

    title = "account"
    parameter_name = "account"
    SHOWN = 100

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        accounts = Account.objects.order_by("name")
        if not request.user.is_superuser:
            accounts = accounts.filter(pk__in=actor_in(request).roles)
        return [(str(pk), name) for pk, name in accounts.values_list("pk", "name")[: self.SHOWN]]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        chosen = {str(key) for key, _ in self.lookup_choices}
        return queryset.filter(account=self.value()) if self.value() in chosen else queryset


class OwnedAdmin(admin.ModelAdmin):
    """Rows of accounts: superusers work on all, staff on what their role in the account allows.

    Django's own permissions play no part. Nothing is added, changed or deleted unless a subclass
    says so, and then through a service: in `save_model`, and in `remove` for one row.
    """

    show_full_result_count = False
    paginator = CappedPaginator
    list_per_page = 50
    list_filter: ClassVar[Any] = (AccountFilter,)
    adds = changes = deletes = False
    view_action = Action.READ
    change_action = Action.EDIT

    def account_of(self, obj: Any) -> Account:
        return obj.account

    def in_accounts(self, queryset: QuerySet, accounts: Iterable) -> QuerySet:
        return queryset.filter(account__in=accounts)

    def remove(self, request: HttpRequest, obj: Any) -> None:
        raise NotImplementedError

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        queryset = super().get_queryset(request)
        if request.user.is_superuser:
            return queryset
        return self.in_accounts(queryset, actor_in(request).roles)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may(request, self.view_action)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, self.view_action, obj and self.account_of(obj))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.adds and may(request, self.change_action)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.changes and may(request, self.change_action, obj and self.account_of(obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.deletes and may(request, self.change_action, obj and self.account_of(obj))

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "account":
            kwargs["queryset"] = accounts_allowing(request, self.change_action)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, Any]:
        """List what a confirmation shows. Django's own would load every dependent row, millions."""
        objs = list(objs)
        refused = {
            self.opts.verbose_name for obj in objs if not self.has_delete_permission(request, obj)
        }
        return [str(obj) for obj in objs], {self.opts.verbose_name_plural: len(objs)}, refused, []

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.remove(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        for obj in queryset:
            self.remove(request, obj)

    def each_allowed(self, request: HttpRequest, queryset: QuerySet) -> list:
        """Return the selected rows that the user may change, and tell how many are left out."""
        rows = list(queryset)
        allowed = [row for row in rows if may(request, self.change_action, self.account_of(row))]
        if len(allowed) < len(rows):
            left = len(rows) - len(allowed)
            self.message_user(request, f"{left} left out: your role is too weak.", messages.WARNING)
        return allowed

    changeform_view = with_refusals_shown(admin.ModelAdmin.changeform_view)
    changelist_view = with_refusals_shown(admin.ModelAdmin.changelist_view)
    delete_view = with_refusals_shown(admin.ModelAdmin.delete_view)


def become(obj: models.Model, made: models.Model) -> None:
    """Make the object of the admin's form equal to the one that the service made."""
    obj.__dict__.update(made.__dict__)
