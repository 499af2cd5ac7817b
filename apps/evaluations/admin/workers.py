"""The admin of workers: tasks and machines that gave a sign of life."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from apps.accounts.owned_admin import CappedPaginator
from apps.evaluations.models import MachineHeartbeat, UpkeepLease, WorkerHeartbeat


class SeenAdmin(admin.ModelAdmin):
    """Rows of no account, for superusers to look at."""

    show_full_result_count = False
    paginator = CappedPaginator
    title: str

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_active and request.user.is_superuser

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    has_change_permission = has_delete_permission = has_add_permission

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"title": self.title, **(extra_context or {})})

    @admin.display(description="alive", boolean=True)
    def is_alive(self, row: Any) -> bool:
        until = row.lease_until if isinstance(row, UpkeepLease) else row.seen_until
        return until > timezone.now()


@admin.register(WorkerHeartbeat)
class WorkerHeartbeatAdmin(SeenAdmin):
    title = "Tasks seen at work"
    list_display = ("host", "pid", "is_alive", "started_at", "seen_until")


@admin.register(MachineHeartbeat)
class MachineHeartbeatAdmin(SeenAdmin):
    title = "Machines that keep workers ready"
    list_display = ("host", "workers", "is_alive", "seen_until")


@admin.register(UpkeepLease)
class UpkeepLeaseAdmin(SeenAdmin):
    title = "The machine that sweeps and purges for all"
    list_display = ("machine", "is_alive", "lease_until")
