"""The admin of test cases, those of one dataset at a time."""

from uuid import UUID

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.db.models.functions import Substr
from django.http import HttpRequest

from apps.accounts.owned_admin import OwnedAdmin, become
from apps.accounts.staff import actor_in
from apps.datasets.admin.datasets import VERSIONS_SHOWN
from apps.datasets.drafts import edit_case, remove_case
from apps.datasets.forms import CaseForm
from apps.datasets.models import Dataset, TestCase
from apps.strict_json import parse_json

SEARCHED_CASES = 20_000
PREVIEW_LENGTH = 160


class DatasetFilter(admin.SimpleListFilter):
    """The dataset whose cases are listed: one of those changed last, or the one in the address."""

    title = "dataset"
    parameter_name = "dataset"
    SHOWN = 30

    def lookups(self, request, model_admin):
        datasets = _datasets_in(request).order_by("-updated_at")[: self.SHOWN]
        return [(str(dataset.pk), dataset.name[:60]) for dataset in datasets]

    def queryset(self, request, queryset):
        return queryset


class VersionFilter(admin.SimpleListFilter):
    """The version whose cases are listed; without one the draft."""

    title = "version"
    parameter_name = "version"

    def lookups(self, request, model_admin):
        dataset = chosen_dataset(request)
        newest = dataset.latest_num if dataset else 0
        return [(str(num), str(num)) for num in range(newest, max(newest - VERSIONS_SHOWN, 0), -1)]

    def queryset(self, request, queryset):
        return queryset

    def choices(self, changelist):
        draft, *versions = super().choices(changelist)
        return [{**draft, "display": "draft"}, *versions]


def _datasets_in(request: HttpRequest) -> QuerySet[Dataset]:
    datasets = Dataset.objects.present()
    if request.user.is_superuser:
        return datasets
    return datasets.filter(account__in=actor_in(request).roles)


def chosen_dataset(request: HttpRequest) -> Dataset | None:
    """The dataset that a list of cases is asked for; read once a request."""
    if hasattr(request, "_chosen_dataset"):
        return request._chosen_dataset
    try:
        dataset = _datasets_in(request).filter(pk=UUID(request.GET.get("dataset", ""))).first()
    except ValueError:
        dataset = None
    request._chosen_dataset = dataset  # type: ignore[attr-defined]  # ours
    return dataset


@admin.register(TestCase)
class TestCaseAdmin(OwnedAdmin):
    """The cases of one dataset, in the draft or in a version; edits are of the draft."""

    changes = deletes = True
    form = CaseForm
    list_display = ("position", "preview", "has_sample", "created_at")
    list_display_links = ("position", "preview")
    list_filter = (DatasetFilter, VersionFilter)
    search_fields = ("item",)
    search_help_text = (
        f"a position, a case's id, or text in the first {SEARCHED_CASES:,} cases of the dataset"
    )
    # The list is in the order of the dataset, which the index gives.
    ordering = ("position",)
    sortable_by = ()

    def get_queryset(self, request):
        cases = super().get_queryset(request).filter(dataset__deleted_at=None)
        if not self._is_list(request):
            return cases.select_related("dataset", "account")
        dataset = chosen_dataset(request)
        if dataset is None:
            return cases.none()
        num, start = request.GET.get("version", ""), _position(request.GET.get("q", "")) or 0
        if num.isdecimal():
            version = dataset.versions.filter(num=int(num)).first()
            cases = version.cases(start) if version else cases.none()
        else:
            cases = dataset.draft_cases(start)
        return cases.annotate(
            preview=Substr("item", 1, PREVIEW_LENGTH), has_sample=Q(sample__isnull=False)
        ).defer("item", "sample")

    def _is_list(self, request: HttpRequest) -> bool:
        match = request.resolver_match
        return match is not None and match.url_name == "datasets_testcase_changelist"

    def get_search_results(self, request, queryset, search_term):
        term = search_term.strip()
        if not term:
            return queryset, False
        position = _position(term)
        if position is not None:
            return queryset.filter(position=position), False
        try:
            return queryset.filter(Q(key=UUID(term)) | Q(pk=UUID(term))), False
        except ValueError:
            first = queryset.order_by("position").values_list("position", flat=True).first() or 0
            near = queryset.filter(position__lt=first + SEARCHED_CASES)
            return near.filter(item__icontains=term), False

    def changelist_view(self, request, extra_context=None):
        if chosen_dataset(request) is None:
            text = "Choose a dataset: open its cases from the list of datasets, or by the filter."
            self.message_user(request, text, messages.INFO)
        return super().changelist_view(request, extra_context)

    @admin.display(description="item")
    def preview(self, case: TestCase) -> str:
        text = case.preview  # type: ignore[attr-defined]  # annotated above
        return f"{text}…" if len(text) == PREVIEW_LENGTH else text

    @admin.display(description="recorded answer", boolean=True)
    def has_sample(self, case: TestCase) -> bool:
        return case.has_sample  # type: ignore[attr-defined]  # annotated above

    def get_fields(self, request, obj=None):
        return ("dataset", "position", "key", "item", "sample", "from_num", "until_num")

    def get_readonly_fields(self, request, obj=None):
        return ("dataset", "position", "key", "from_num", "until_num")

    def has_change_permission(self, request, obj=None):
        return (obj is None or _is_in_draft(obj)) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request, obj=None):
        return (obj is None or _is_in_draft(obj)) and super().has_delete_permission(request, obj)

    def save_model(self, request, obj, form, change):
        sample = form.cleaned_data["sample"]
        edited = edit_case(
            actor_in(request, obj.account),
            obj,
            item=parse_json(form.cleaned_data["item"]),
            sample=None if sample is None else parse_json(sample),
        )
        become(obj, edited)

    def remove(self, request, obj):
        remove_case(actor_in(request, obj.account), obj)


def _position(term: str) -> int | None:
    """The place in a dataset that a search names, or None."""
    term = term.strip()
    return int(term) if term.isdecimal() and len(term) < 18 else None


def _is_in_draft(case: TestCase) -> bool:
    dataset = case.dataset
    return case.until_num is None and (
        dataset.first_position <= case.position < dataset.next_position
    )
