"""The admin of model servers and the models they serve."""

from collections.abc import Iterator
from copy import copy
from typing import Any

from django.contrib import admin, messages
from django.db.models import BooleanField, ExpressionWrapper, Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict

from apps.accounts.admin_display import preview
from apps.accounts.owned_admin import AccountFilter, OwnedAdmin, become, with_refusals_shown
from apps.accounts.roles import Action
from apps.accounts.staff import actor_in, may
from apps.inference.admin.endpoint_forms import (
    COMPLETION_PRICE,
    PER_MINUTE,
    PROMPT_PRICE,
    REACHING,
    EndpointForm,
    QuirkInline,
    ServedModelInline,
    models_in,
)
from apps.inference.endpoints import (
    add_endpoint,
    forget_limits,
    remove_model,
    set_endpoint_disabled,
    set_prices,
)
from apps.inference.learned_quirks import forget_quirk
from apps.inference.looking import look_before, try_endpoint
from apps.inference.models import LearnedQuirk, ModelEndpoint, ServedModel
from apps.inference.paces import Wait, wait_of
from apps.leases import database_now

# By what says that there is one, the column that keeps it; no list and no page reads it.
SECRETS = {"key": "api_key", "secret_headers": "secret_headers", "proxy": "proxy"}
FIXED = (
    *("account", "base_url", "has_key", "has_secret_headers", "has_proxy"),
    *("pause", "learned_limits", "disabled_at", "created_at"),
)


TEST = "_test"  # the button's name


def _names_in(posted: QueryDict) -> Iterator[str]:
    """Yield what the models of a form that was sent are called at their server."""
    for field, name in posted.items():
        if field.startswith("models-") and field.endswith("-name") and name:
            yield str(posted.get(f"{field.removesuffix('name')}upstream_name") or name)


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
        "pause",
        "disabled_at",
    )
    list_filter = (AccountFilter, "allow_private", ("disabled_at", admin.EmptyFieldListFilter))
    actions = ("disable", "enable", "forget_limits")
    search_fields = ("base_url",)
    inlines = (ServedModelInline, QuirkInline)
    change_form_template = "admin/inference/endpoint.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        has = {
            f"has_{name}": ExpressionWrapper(~Q(**{kept: ""}), output_field=BooleanField())
            for name, kept in SECRETS.items()
        }
        names = Prefetch("models", ServedModel.objects.order_by("name"))
        endpoints = super().get_queryset(request).select_related("account", "pace")
        return endpoints.annotate(**has).defer(*SECRETS.values()).prefetch_related(names)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        limits = ("concurrency", *PER_MINUTE, "allow_private", "call_seconds")
        shown = ("key_header", "query", "strips_think")
        written = ("plain_headers", "new_secret_headers", "new_proxy")
        if obj is None:
            return ("account", "url", "new_key", *limits, *shown, *written, "is_unchecked")
        if not self.has_change_permission(request, obj):
            return (*FIXED[:2], *limits, *shown, *FIXED[2:])
        return (*FIXED[:2], "new_key", *limits, *shown, *written, "is_unchecked", *FIXED[2:])

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

    @admin.action(
        description="Forget the limits that refusals taught, and end pauses", permissions=["edit"]
    )
    def forget_limits(self, request: HttpRequest, queryset: QuerySet) -> None:
        for endpoint in self.each_allowed(request, queryset):
            forget_limits(actor_in(request, endpoint.account), endpoint)

    @admin.display(description="paused")
    def pause(self, endpoint: ModelEndpoint) -> str:
        wait = self._wait(endpoint)
        if wait is None or wait.until is None:
            return ""
        return f"by the model server until {wait.until:%H:%M:%S} UTC: {preview(wait.words)}"

    @admin.display(description="learned limits")
    def learned_limits(self, endpoint: ModelEndpoint) -> str:
        wait = self._wait(endpoint)
        pace = getattr(endpoint, "pace", None)
        limits = [wait.limit] if wait is not None and wait.limit else []
        if pace is not None and pace.concurrency is not None:
            limits.append(f"{pace.concurrency} in flight")
        return ", ".join(limits)

    def _wait(self, endpoint: ModelEndpoint) -> Wait | None:
        pace = getattr(endpoint, "pace", None)  # there is none before a first refusal
        return None if pace is None else wait_of(pace, database_now())

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

    @with_refusals_shown
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        # Before Django's own view, which is one transaction: nobody waits in it for a server.
        if request.method == "POST":
            endpoint = self.get_object(request, object_id) if object_id else None
            if TEST in request.POST and endpoint is not None:
                return self._test(request, endpoint)
            self._look(request, endpoint)
        return super().changeform_view(request, object_id, form_url, extra_context)

    def _test(self, request: HttpRequest, endpoint: ModelEndpoint) -> HttpResponse:
        """Ask the server as runs would, and show what came of it."""
        for tried in try_endpoint(actor_in(request, endpoint.account), endpoint):
            level = messages.SUCCESS if tried.is_good else messages.ERROR
            self.message_user(request, tried.words, level)
        return HttpResponseRedirect(request.get_full_path())

    def _look(self, request: HttpRequest, endpoint: ModelEndpoint | None) -> None:
        """Look at the server that a form is about, where that tells whether it will answer."""
        if not self.has_edit_permission(request):
            return
        form: Any = self.get_form(request, endpoint)(request.POST, instance=copy(endpoint))
        if not form.is_valid() or form.cleaned_data["is_unchecked"]:
            return
        if endpoint is not None and not REACHING & {*form.changed_data}:
            return
        actor = actor_in(request, form.instance.account)
        request.look = look_before(  # type: ignore[attr-defined]  # ours
            actor,
            base_url=endpoint.base_url if endpoint else form.cleaned_data["url"],
            api_key=form.cleaned_data["new_key"] or None,
            allow_private=form.cleaned_data["allow_private"],
            settings=form.settings(),
            models=[*_names_in(request.POST)],
        )

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Nothing yet: a server and its models are one call of the service, made below."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        for formset in formsets:
            formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []
        endpoint = form.instance
        actor = actor_in(request, endpoint.account)
        gone = {
            formset.model: [row.instance.pk for row in formset.deleted_forms]
            for formset in formsets
        }
        for model in ServedModel.objects.filter(pk__in=gone.get(ServedModel, ())):
            remove_model(actor, model)
        quirks = LearnedQuirk.objects.select_related("endpoint__account")
        for quirk in quirks.filter(endpoint=endpoint.pk, pk__in=gone.get(LearnedQuirk, ())):
            forget_quirk(actor, quirk)
        rows = [
            row.cleaned_data
            for formset in formsets
            if formset.model is ServedModel
            for row in formset
            if row.has_changed() and row not in formset.deleted_forms
        ]
        look = getattr(request, "look", None)
        for note in look.notes if look else ():
            self.message_user(request, note, messages.WARNING)
        given = form.cleaned_data.get("url") or endpoint.base_url
        made = add_endpoint(
            actor,
            base_url=look.base_url if look else given,
            api_key=form.cleaned_data["new_key"] or None,
            concurrency=form.cleaned_data["concurrency"],
            requests_per_minute=form.cleaned_data["requests_per_minute"] or 0,
            tokens_per_minute=form.cleaned_data["tokens_per_minute"] or 0,
            allow_private=form.cleaned_data["allow_private"],
            settings=form.settings(),
            enables=False,
            **models_in(rows),
        )
        for row in rows:
            model = ServedModel.objects.select_related("account").get(
                endpoint=made, name=row["name"]
            )
            prices = {"prompt": row[PROMPT_PRICE], "completion": row[COMPLETION_PRICE]}
            set_prices(actor, model, **prices)
        become(endpoint, made)
