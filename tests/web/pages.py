"""Read what the pages show."""

import re

from django.urls import reverse

from apps.evaluations.models import Run


def url_of(run: Run) -> str:
    return reverse("web:run", args=[run.pk])


def text_of(answer) -> str:
    """Return the text of a page without its tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def names(answer) -> list[str]:
    return [view.run.name for view in answer.context["views"]]
