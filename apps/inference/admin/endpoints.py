"""The admin of model servers and the models they serve."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import BooleanField, ExpressionWrapper, Prefetch, Q, QuerySet
from django.http import HttpRequest

from apps.accounts.admin_display import preview
from apps.accounts.owned_admin import AccountFilter, OwnedAdmin, become
from apps.accounts.roles import Action
from apps.accounts.staff import actor_in, may
from apps.inference.endpoints import (
    add_endpoint,
    remove_model,
    set_endpoint_disabled,
    set_prices,
)
from apps.inference.models import ModelEndpoint, ServedModel
from apps.inference.server_settings import ServerSettings, header_lines, read_header_lines

PER_MINUTE = "requests_per_minute", "tokens_per_minute"
# By what says that there is one, the column that keeps it; no list and no page reads it.
SECRETS = {"key": "api_key", "secret_headers": "secret_headers", "proxy": "proxy"}
FIXED = (
    *("account", "base_url", "has_key", "has_secret_headers", "has_proxy"),
    *("disabled_at", "created_at"),
)
PRICES = PROMPT_PRICE, COMPLETION_PRICE = "prompt_price", "completion_price"


class EndpointForm(forms.ModelForm):
    """Two fields are none of the model's: no form ever holds the key that is kept, and the service
    takes URLs that Django does not, `http://vllm:8000/v1`.
    """

    url = forms.CharField(
        label="Base URL",
        max_length=2000,
        widget=forms.TextInput(attrs={"size": 60}),
        help_text=ModelEndpoint._meta.get_field("base_url").help_text,
    )
    new_key = forms.CharField(
        label="API key",
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "size": 60}),
        help_text="Kept encrypted and never shown again. Leave empty to keep the one there is.",
    )

    plain_headers = forms.CharField(
        label="Headers",
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60}),
        help_text="Of every request; Name: value, one a line.",
    )
    new_secret_headers = forms.CharField(
        label="Secret headers",
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60, "autocomplete": "off"}),
        help_text="Name: value, one a line. Values are kept encrypted and never shown again; a "
        "name without a value takes that header away, all others stay.",
    )
    new_proxy = forms.CharField(
        label="Proxy",
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "size": 60}),
        help_text="http://[user:password@]host:port; kept encrypted. Leave empty to keep the one "
        "there is; - takes it away.",
    )

    class Meta:
        model = ModelEndpoint
        fields = (
            *("account", "concurrency", *PER_MINUTE, "allow_private"),
            *("key_header", "query", "call_seconds", "strips_think"),
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            # Another URL would be another endpoint.
            del self.fields["url"]
            self.fields["plain_headers"].initial = header_lines(self.instance)

    def settings(self) -> ServerSettings:
        """The settings as the service takes them; once the form is valid. Raises Invalid."""
        given = self.cleaned_data
        proxy = given["new_proxy"].strip()
        return ServerSettings(
            key_header=given["key_header"],
            headers=read_header_lines(given["plain_headers"], "headers"),
            secret_headers=read_header_lines(given["new_secret_headers"], "secret_headers"),
            query=given["query"],
            proxy="" if proxy == "-" else (proxy or None),
            call_seconds=given["call_seconds"] or 0,
            strips_think=given["strips_think"],
        )


class ServedModelForm(forms.ModelForm):
    class Meta:
        model = ServedModel
        fields = ("name", "upstream_name", "kind", *PRICES)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            # Another name would be another model.
            self.fields["name"].disabled = True

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        is_chat = given.get("kind") == ServedModel.Kind.CHAT
        if given.get("upstream_name") and not is_chat:
            self.add_error("upstream_name", "Only a chat model can have another name there.")
        return given


class ServedModelInline(admin.TabularInline):
    model = ServedModel
    form = ServedModelForm
    fields = ("name", "upstream_name", "kind", *PRICES)
    extra = 1

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, Action.READ, obj and obj.account)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, Action.MANAGE, obj and obj.account)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)


@admin.register(ModelEndpoint)
class ModelEndpointAdmin(OwnedAdmin):
    """Model servers. Their keys go in and never out: neither list nor page reads them."""

    adds = changes = True
    change_action = Action.MANAGE
    form = EndpointForm
    list_display = (
        "base_url",
        "account",
        "model_names",
        "concurrency",
        "allow_private",
        "has_key",
        "disabled_at",
    )
    list_filter = (AccountFilter, "allow_private", ("disabled_at", admin.EmptyFieldListFilter))
    actions = ("disable", "enable")
    search_fields = ("base_url",)
    inlines = (ServedModelInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        has = {
            f"has_{name}": ExpressionWrapper(~Q(**{kept: ""}), output_field=BooleanField())
            for name, kept in SECRETS.items()
        }
        names = Prefetch("models", ServedModel.objects.order_by("name"))
        endpoints = super().get_queryset(request).select_related("account")
        return endpoints.annotate(**has).defer(*SECRETS.values()).prefetch_related(names)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        limits = ("concurrency", *PER_MINUTE, "allow_private", "call_seconds")
        shown = ("key_header", "query", "strips_think")
        written = ("plain_headers", "new_secret_headers", "new_proxy")
        if obj is None:
            return ("account", "url", "new_key", *limits, *shown, *written)
        if not self.has_change_permission(request, obj):
            return (*FIXED[:2], *limits, *shown, *FIXED[2:])
        return (*FIXED[:2], "new_key", *limits, *shown, *written, *FIXED[2:])

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return FIXED if obj else ()

    def has_edit_permission(self, request: HttpRequest) -> bool:
        return may(request, self.change_action)

    @admin.action(description="Disable: runs that need it fail", permissions=["edit"])
    def disable(self, request: HttpRequest, queryset: QuerySet) -> None:
        self._set_disabled(request, queryset, is_disabled=True)

    @admin.action(description="Enable", permissions=["edit"])
    def enable(self, request: HttpRequest, queryset: QuerySet) -> None:
        self._set_disabled(request, queryset, is_disabled=False)

    def _set_disabled(self, request: HttpRequest, queryset: QuerySet, *, is_disabled: bool) -> None:
        for endpoint in self.each_allowed(request, queryset):
            actor = actor_in(request, endpoint.account)
            set_endpoint_disabled(actor, endpoint, is_disabled=is_disabled)

    @admin.display(description="models")
    def model_names(self, endpoint: ModelEndpoint) -> str:
        return preview(", ".join(model.name for model in endpoint.models.all()))

    @admin.display(description="key", boolean=True)
    def has_key(self, endpoint: Any) -> bool:
        return endpoint.has_key

    @admin.display(description="secret headers", boolean=True)
    def has_secret_headers(self, endpoint: Any) -> bool:
        return endpoint.has_secret_headers

    @admin.display(description="proxy", boolean=True)
    def has_proxy(self, endpoint: Any) -> bool:
        return endpoint.has_proxy

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Nothing yet: a server and its models are one call of the service, made below."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        for formset in formsets:
            formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []
        endpoint = form.instance
        actor = actor_in(request, endpoint.account)
        gone = [row for formset in formsets for row in formset.deleted_forms]
        for model in ServedModel.objects.filter(pk__in=[row.instance.pk for row in gone]):
            remove_model(actor, model)
        changed = [row for formset in formsets for row in formset if row.has_changed()]
        rows = [row.cleaned_data for row in changed if row not in gone]
        made = add_endpoint(
            actor,
            base_url=form.cleaned_data.get("url") or endpoint.base_url,
            api_key=form.cleaned_data["new_key"] or None,
            concurrency=form.cleaned_data["concurrency"],
            requests_per_minute=form.cleaned_data["requests_per_minute"] or 0,
            tokens_per_minute=form.cleaned_data["tokens_per_minute"] or 0,
            allow_private=form.cleaned_data["allow_private"],
            settings=form.settings(),
            enables=False,
            **_models_in(rows),
        )
        for row in rows:
            model = ServedModel.objects.select_related("account").get(
                endpoint=made, name=row["name"]
            )
            prices = {"prompt": row[PROMPT_PRICE], "completion": row[COMPLETION_PRICE]}
            set_prices(actor, model, **prices)
        become(endpoint, made)


def _models_in(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The rows of the inline as the service takes them."""
    models: list[str] = []
    embedding_models: list[str] = []
    aliases: dict[str, str] = {}
    for row in rows:
        if row["upstream_name"]:
            aliases[row["name"]] = row["upstream_name"]
        else:
            kept = models if row["kind"] == ServedModel.Kind.CHAT else embedding_models
            kept.append(row["name"])
    return {"models": models, "embedding_models": embedding_models, "aliases": aliases}
