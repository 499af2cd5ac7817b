"""The admin's page on which criteria are written, tried on rows, and kept or graded by."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.evaluations.forms import CriteriaForm


def criteria_page(
    model_admin: Any,
    request: HttpRequest,
    obj: Any,
    form: CriteriaForm,
    *,
    title: str,
    submit: str,
) -> HttpResponse:
    """Render the form, with the marks of a trial where one was asked for."""
    if request.method == "POST" and "try" in request.POST:
        form.try_out()
    context = {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "submit": submit,
        "opts": model_admin.opts,
        "object": obj,
        "form": form,
        "trial": form.trial,
    }
    return render(request, "admin/evaluations/criteria.html", context)
