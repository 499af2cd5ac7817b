"""The admin of webhooks and of what they were told."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.accounts.admin_display import as_uuid, pretty
from apps.accounts.owned_admin import AccountFilter, OwnedAdmin, become
from apps.accounts.roles import Action
from apps.accounts.staff import actor_in, may
from apps.errors import StateError
from apps.evaluations.models import Run
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint
from apps.webhooks.services import (
    add_webhook,
    remove_webhook,
    resend,
    set_webhook_disabled,
)


class WebhookForm(forms.ModelForm):
    """The URL and the events are the service's to check; the secret is in no form at all."""

    address = forms.CharField(label="URL", max_length=2000)
    chosen = forms.MultipleChoiceField(
        label="Events",
        choices=[(str(state), f"A run is {state.label.lower()}") for state in Run.FINAL],
        initial=[str(state) for state in Run.FINAL],
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = WebhookEndpoint
        fields = ("account", "allow_private")


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(OwnedAdmin):
    """Webhooks. A secret is shown once, when it is made; neither list nor page reads it."""

    adds = deletes = True
    change_action = Action.MANAGE
    form = WebhookForm
    list_display = ("url", "account", "events", "allow_private", "disabled_at")
    list_filter = (AccountFilter, ("disabled_at", admin.EmptyFieldListFilter))
    search_fields = ("url",)
    actions = ("disable", "enable")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).select_related("account").defer("secret")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("account", "address", "chosen", "allow_private")
        return ("account", "url", "events", "allow_private", "disabled_at", "created_at")

    def has_edit_permission(self, request: HttpRequest) -> bool:
        return may(request, self.change_action)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        given = form.cleaned_data
        webhook, secret = add_webhook(
            actor_in(request, given["account"]),
            url=given["address"],
            events=given["chosen"],
            allow_private=given["allow_private"],
        )
        become(obj, webhook)
        text = f"The secret of {webhook.url}, shown this once: {secret}"
        self.message_user(request, text, messages.SUCCESS)

    def remove(self, request: HttpRequest, obj: Any) -> None:
        remove_webhook(actor_in(request, obj.account), obj)

    @admin.action(description="Disable: tell nothing more", permissions=["edit"])
    def disable(self, request: HttpRequest, queryset: QuerySet) -> None:
        for webhook in self.each_allowed(request, queryset):
            set_webhook_disabled(actor_in(request, webhook.account), webhook, is_disabled=True)

    @admin.action(description="Enable", permissions=["edit"])
    def enable(self, request: HttpRequest, queryset: QuerySet) -> None:
        for webhook in self.each_allowed(request, queryset):
            set_webhook_disabled(actor_in(request, webhook.account), webhook, is_disabled=False)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(OwnedAdmin):
    """The deliveries of webhooks, found by the id of the event or of the run."""

    change_action = Action.MANAGE
    list_display = (
        "event_id",
        "event",
        "endpoint",
        "account",
        "state",
        "attempts",
        "last_status",
        "last_error",
        "next_attempt_at",
        "delivered_at",
    )
    list_filter = (AccountFilter, "state", "event")
    search_fields = ("=event_id", "endpoint__url")
    search_help_text = "an event's id, a run's id or a URL"
    ordering = ("-id",)
    actions = ("send_again",)
    fields = ("run_id", *list_display, "created_at", "body_shown")
    readonly_fields = ("body_shown",)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        deliveries = super().get_queryset(request).select_related("endpoint", "account")
        return deliveries.defer("endpoint__secret")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet, search_term: str
    ) -> tuple[QuerySet, bool]:
        term = search_term.strip()
        pk = None if term.startswith("evt_") else as_uuid(term.rpartition("_")[2])
        if pk is None:
            return super().get_search_results(request, queryset, term)
        return queryset.filter(run_id=pk), False

    def has_edit_permission(self, request: HttpRequest) -> bool:
        return may(request, self.change_action)

    @admin.display(description="body")
    def body_shown(self, delivery: WebhookDelivery) -> Any:
        return pretty(delivery.body or None)

    @admin.action(description="Send again, with the same event id", permissions=["edit"])
    def send_again(self, request: HttpRequest, queryset: QuerySet) -> None:
        for delivery in self.each_allowed(request, queryset):
            try:
                resend(actor_in(request, delivery.account), delivery)
            except StateError as error:
                self.message_user(request, f"{delivery}: {error}", messages.ERROR)
            else:
                self.message_user(request, f"{delivery}: on its way.", messages.SUCCESS)
