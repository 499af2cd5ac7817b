"""Import a file as a dataset, say how it was read, and hand out the rows that were skipped."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_http_methods, require_safe

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.accounts.staff import REFUSALS
from apps.datasets.file_imports import SKIPPED_PURPOSE, SkippedRows, keep_skipped
from apps.datasets.forms import FileForm
from apps.datasets.import_export import BAD_ROWS_SHOWN, BadRows
from apps.datasets.models import File
from apps.datasets.stored_files import read_file
from evalplatform.sessions import in_any_account, signed_in

REFUSED = 422


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def import_dataset(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Make a file's rows the next version of a dataset, in place of its earlier cases."""
    actor.require(Action.EDIT)
    form = FileForm(request.POST or None, request.FILES or None)
    form.fields["name"].initial = request.GET.get("name", "")
    bad_rows: Any = ()
    if request.method == "POST" and form.is_valid():
        try:
            with SkippedRows() as skipped:
                done = form.run(actor, skipped)
                messages.success(request, done.summary())
                if skipped.count:
                    file = keep_skipped(actor, done, skipped)
                    url = reverse("web:skipped_rows", args=[file.pk])
                    said = 'The skipped rows, with the reasons: <a href="{}">{}</a>'
                    messages.warning(request, format_html(said, url, file.filename))
            return redirect("web:dataset", done.version.dataset_id)
        except BadRows as error:
            bad_rows = error.rows
        except REFUSALS as error:
            form.refuse(error)
    context = {
        "form": form,
        "bad_rows": bad_rows,
        "more_bad_rows": len(bad_rows) == BAD_ROWS_SHOWN,
    }
    status = REFUSED if form.errors or bad_rows else 200
    return render(request, "web/import_dataset.html", context, status=status)


@signed_in
@require_safe
def skipped_rows(request: HttpRequest, actor: Actor, file_id: UUID) -> HttpResponse:
    """Hand out the rows that an import passed over."""
    visible = File.objects.visible_to(in_any_account(actor)).present()
    file = get_object_or_404(visible, pk=file_id, purpose=SKIPPED_PURPOSE)
    return StreamingHttpResponse(  # type: ignore[return-value]  # Django sends either
        read_file(file.pk),
        content_type="application/jsonl",
        headers={"Content-Disposition": content_disposition_header(True, file.filename) or ""},
    )
