"""The forms in which endpoints and their models are changed, and what servers refuse forgotten."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from apps.accounts.roles import Action
from apps.accounts.staff import may
from apps.inference.models import LearnedQuirk, ModelEndpoint, ServedModel
from apps.inference.server_settings import ServerSettings, header_lines, read_header_lines

PER_MINUTE = "requests_per_minute", "tokens_per_minute"
PRICES = PROMPT_PRICE, COMPLETION_PRICE = "prompt_price", "completion_price"
# What decides whether a server answers: a change of it is looked at before it is stored.
REACHING = frozenset(
    {"url", "new_key", "allow_private", "key_header", "query", "plain_headers"}
    | {"new_secret_headers", "new_proxy"}
)


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

    is_unchecked = forms.BooleanField(
        label="Store it unchecked",
        required=False,
        help_text="Without a look whether the server answers.",
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


class QuirkInline(admin.TabularInline):
    """The forms of requests that a server refuses; to delete a row is to forget it."""

    model = LearnedQuirk
    fields = readonly_fields = ("model", "sentence", "words", "learned_at")
    extra = 0
    verbose_name = "refused form"
    verbose_name_plural = "refused forms: learned from the server; delete one to try it again"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, Action.READ, obj and obj.account)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_delete_permission(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, Action.MANAGE, obj and obj.account)


def models_in(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
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
