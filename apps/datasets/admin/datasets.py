"""The admin of datasets and their versions."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import content_disposition_header

from apps.accounts.owned_admin import AccountFilter, OwnedAdmin, become
from apps.accounts.staff import REFUSALS, actor_in
from apps.datasets.drafts import freeze_version
from apps.datasets.file_imports import SkippedRows, keep_skipped
from apps.datasets.forms import DatasetForm, ImportForm
from apps.datasets.import_export import BAD_ROWS_SHOWN, BadRows, export_cases
from apps.datasets.models import Dataset, DatasetVersion
from apps.datasets.services import (
    archive_dataset,
    create_dataset,
    delete_dataset,
    restore_dataset,
    update_dataset,
)
from apps.datasets.tabular import write_jsonl

VERSIONS_SHOWN = 50


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
            try:
                with SkippedRows() as skipped:
                    self._import(request, form, skipped)
                return HttpResponseRedirect(reverse("admin:datasets_dataset_changelist"))
            except BadRows as error:
                bad_rows = error.rows
            except REFUSALS as error:
                form.refuse(error)
        context = {
            **self.admin_site.each_context(request),
            "title": "Import a dataset",
            "form": form,
            "bad_rows": bad_rows,
            "more_bad_rows": len(bad_rows) == BAD_ROWS_SHOWN,
        }
        return TemplateResponse(request, "admin/datasets/dataset/import.html", context)

    def _import(self, request: HttpRequest, form: ImportForm, skipped: SkippedRows) -> None:
        """Import the form's file, say how it was read, and keep the rows that were skipped."""
        actor = actor_in(request, form.cleaned_data["account"])
        done = form.run(actor, skipped)
        self.message_user(request, done.summary(), messages.SUCCESS)
        if skipped.count:
            file = keep_skipped(actor, done, skipped)
            url = f"{reverse('admin:datasets_file_changelist')}?id={file.pk}"
            message = 'The skipped rows, with the reasons: <a href="{}">{}</a>'
            self.message_user(request, format_html(message, url, file.filename), messages.WARNING)


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
