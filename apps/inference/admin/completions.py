"""The admin of answers that were kept for evaluations to come; to look at, and no more."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from apps.accounts.admin_display import FoundById, block, is_list, pretty
from apps.accounts.owned_admin import AccountFilter
from apps.inference.models import StoredCompletion

LONG = ("instructions", "messages", "params", "completion", "spec")


@admin.register(StoredCompletion)
class StoredCompletionAdmin(FoundById):
    list_display = ("id", "model", "kind", "account", "created_by", "created_at")
    list_filter = (AccountFilter, "kind", ("created_at", admin.DateFieldListFilter))
    search_fields = ("=model",)
    search_help_text = "a model, or an id"
    ordering = ("-id",)
    fields = (
        "id",
        "account",
        "model",
        "kind",
        "instructions_shown",
        "messages_shown",
        "params_shown",
        "completion_shown",
        "metadata_shown",
        "created_by",
        "created_at",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = super().get_queryset(request).filter(deleted_at=None)
        rows = rows.select_related("account", "created_by")
        return rows.defer(*LONG) if is_list(request) else rows

    @admin.display(description="instructions")
    def instructions_shown(self, completion: StoredCompletion) -> SafeString | str:
        return block(completion.instructions)

    @admin.display(description="messages")
    def messages_shown(self, completion: StoredCompletion) -> SafeString | str:
        return pretty(completion.messages)

    @admin.display(description="parameters")
    def params_shown(self, completion: StoredCompletion) -> SafeString | str:
        return pretty(completion.params)

    @admin.display(description="completion")
    def completion_shown(self, completion: StoredCompletion) -> SafeString | str:
        return pretty(completion.completion)

    @admin.display(description="metadata")
    def metadata_shown(self, completion: StoredCompletion) -> SafeString | str:
        return pretty(completion.metadata)
