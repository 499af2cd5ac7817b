"""The admin of uploaded files."""

from typing import Any

from django.contrib import admin, messages

from apps.accounts.owned_admin import AccountFilter, OwnedAdmin
from apps.accounts.staff import actor_in
from apps.datasets.admin.datasets import download
from apps.datasets.models import File
from apps.datasets.stored_files import delete_file, read_file


@admin.register(File)
class FileAdmin(OwnedAdmin):
    deletes = True
    list_display = (
        "filename",
        "account",
        "purpose",
        "byte_count",
        "created_by",
        "created_at",
        "expires_at",
    )
    list_select_related = ("account", "created_by")
    list_filter = (AccountFilter, "created_at")
    search_fields = ("filename",)
    actions = ("download",)

    def get_queryset(self, request):
        rows: Any = super().get_queryset(request)
        return rows.present()

    def remove(self, request, obj):
        delete_file(actor_in(request, obj.account), obj)

    @admin.action(description="Download", permissions=["view"])
    def download(self, request, queryset):
        if queryset.count() != 1:
            self.message_user(request, "Select one file to download.", messages.ERROR)
            return None
        file = queryset.get()
        return download(file.filename, read_file(file.pk), "application/octet-stream")
