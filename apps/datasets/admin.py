"""The admin of datasets, their versions and cases, and of uploaded files."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.db.models.functions import Substr
from django.http import Http404, HttpRequest, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import content_disposition_header

from apps.accounts.owned_admin import AccountFilter, OwnedAdmin, become
from apps.accounts.staff import REFUSALS, actor_in, reason_of
from apps.datasets.drafts import edit_case, freeze_version, remove_case
from apps.datasets.forms import CaseForm, DatasetForm, ImportForm
from apps.datasets.import_export import BAD_ROWS_SHOWN, BadRows, export_cases, import_cases
from apps.datasets.models import Dataset, DatasetVersion, File, TestCase
from apps.datasets.row_readers import STREAMED
from apps.datasets.services import (
    archive_dataset,
    create_dataset,
    delete_dataset,
    restore_dataset,
    update_dataset,
)
from apps.datasets.stored_files import delete_file, read_file
from apps.datasets.tabular import write_jsonl
from apps.strict_json import parse_json

VERSIONS_SHOWN = 50
SEARCHED_CASES = 20_000
PREVIEW_LENGTH = 160


def download(filename: str, chunks: Iterator[bytes], content_type: str) -> StreamingHttpResponse:
    response = StreamingHttpResponse(chunks, content_type=content_type)
    response["Content-Disposition"] = content_disposition_header(True, filename) or "attachment"
    return response


def export_response(version: DatasetVersion) -> StreamingHttpResponse:
    name = f"{version.dataset.name[:100]}-v{version.num}.jsonl"
    return download(name, write_jsonl(export_cases(version)), "application/jsonl")


@admin.register(Dataset)
class DatasetAdmin(OwnedAdmin):
    adds = changes = deletes = True
    form = DatasetForm
    list_display = (
        "name",
        "account",
        "latest_num",
        "cases",
        "draft_changes",
        "updated_at",
        "archived_at",
    )
    list_select_related = ("account",)
    list_filter = (AccountFilter, ("archived_at", admin.EmptyFieldListFilter), "created_at")
    search_fields = ("name", "description")
    actions = ("export", "freeze", "archive", "restore")

    def get_queryset(self, request):
        rows: Any = super().get_queryset(request)
        return rows.present()

    def get_fields(self, request, obj=None):
        edited = ("account", "name", "description", "label_field", "text_field")
        return (*edited, *self.get_readonly_fields(request, obj)[1:]) if obj else edited

    def get_readonly_fields(self, request, obj=None):
        if obj is None:
            return ()
        return ("account", "id", "cases", "versions_shown", "archived_at", "updated_at")

    @admin.display(description="cases", ordering="case_count")
    def cases(self, dataset: Dataset) -> str:
        url = reverse("admin:datasets_testcase_changelist")
        return format_html('<a href="{}?dataset={}">{}</a>', url, dataset.pk, dataset.case_count)

    @admin.display(description="versions")
    def versions_shown(self, dataset: Dataset) -> str:
        versions = dataset.versions.order_by("-num")[:VERSIONS_SHOWN]
        cases = f"{reverse('admin:datasets_testcase_changelist')}?dataset={dataset.pk}&version="
        return format_html_join(
            "",
            '<p>{}: <a href="{}">{} cases</a>, <a href="{}">export</a></p>',
            (
                (
                    version.num,
                    f"{cases}{version.num}",
                    version.case_count,
                    reverse("admin:datasets_datasetversion_export", args=[version.pk]),
                )
                for version in versions
            ),
        )

    def save_model(self, request, obj, form, change):
        given = dict(form.cleaned_data)
        account = obj.account
        given.pop("account", None)
        actor = actor_in(request, account)
        saved = update_dataset(actor, obj, **given) if change else create_dataset(actor, **given)
        become(obj, saved)

    def remove(self, request, obj):
        delete_dataset(actor_in(request, obj.account), obj)

    @admin.action(description="Export the newest version as JSONL", permissions=["view"])
    def export(self, request, queryset):
        if queryset.count() != 1:
            self.message_user(request, "Select one dataset to export.", messages.ERROR)
            return None
        version = queryset.get().newest_version()
        if version is None:
            self.message_user(request, "It has no version: freeze it first.", messages.ERROR)
            return None
        return export_response(version)

    @admin.action(description="Freeze the draft as a version", permissions=["change"])
    def freeze(self, request, queryset):
        for dataset in self.each_allowed(request, queryset):
            version = freeze_version(actor_in(request, dataset.account), dataset)
            self.message_user(request, f"{dataset.name} version {version.num} is frozen.")

    @admin.action(description="Archive", permissions=["change"])
    def archive(self, request, queryset):
        for dataset in self.each_allowed(request, queryset):
            archive_dataset(actor_in(request, dataset.account), dataset)

    @admin.action(description="Restore from the archive", permissions=["change"])
    def restore(self, request, queryset):
        for dataset in self.each_allowed(request, queryset):
            restore_dataset(actor_in(request, dataset.account), dataset)

    def get_urls(self):
        view = self.admin_site.admin_view(self.import_view)
        return [path("import/", view, name="datasets_dataset_import"), *super().get_urls()]

    def import_view(self, request: HttpRequest):
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = ImportForm(request.POST or None, request.FILES or None)
        form.fields["account"] = self.formfield_for_foreignkey(
            Dataset._meta.get_field("account"), request
        )
        bad_rows: tuple = ()
        if request.method == "POST" and form.is_valid():
            given = form.cleaned_data
            try:
                version = import_cases(
                    actor_in(request, given["account"]),
                    into=given["name"],
                    rows=STREAMED[given["format"]].read(given["file"].chunks()),
                    flat=given["flat"],
                    label_field=given["label_field"],
                    text_field=given["text_field"],
                )
            except BadRows as error:
                bad_rows = error.rows
            except REFUSALS as error:
                form.add_error(None, reason_of(error))
            else:
                done = f"Imported {version.case_count:,} rows into {version}."
                self.message_user(request, done, messages.SUCCESS)
                return HttpResponseRedirect(reverse("admin:datasets_dataset_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "title": "Import a dataset",
            "form": form,
            "bad_rows": bad_rows,
            "more_bad_rows": len(bad_rows) == BAD_ROWS_SHOWN,
        }
        return TemplateResponse(request, "admin/datasets/dataset/import.html", context)


@admin.register(DatasetVersion)
class DatasetVersionAdmin(OwnedAdmin):
    list_display = ("dataset", "num", "case_count", "account", "created_by", "created_at")
    list_select_related = ("dataset", "account", "created_by")
    list_filter = (AccountFilter, "created_at")
    search_fields = ("dataset__name",)
    ordering = ("-created_at", "-id")
    actions = ("export",)

    def get_queryset(self, request):
        return super().get_queryset(request).filter(dataset__deleted_at=None)

    @admin.action(description="Export as JSONL", permissions=["view"])
    def export(self, request, queryset):
        if queryset.count() != 1:
            self.message_user(request, "Select one version to export.", messages.ERROR)
            return None
        return export_response(queryset.get())

    def get_urls(self):
        view = self.admin_site.admin_view(self.export_view)
        export = path("<uuid:pk>/export/", view, name="datasets_datasetversion_export")
        return [export, *super().get_urls()]

    def export_view(self, request: HttpRequest, pk: UUID):
        version = self.get_queryset(request).filter(pk=pk).first()
        if version is None:
            raise Http404
        return export_response(version)


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
