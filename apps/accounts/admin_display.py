"""Show values of any kind on the admin's pages, and find rows of its lists by id."""

import json
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib.admin import ShowFacets
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.accounts.owned_admin import OwnedAdmin
from apps.strict_json import BadJSON, parse_json

PREVIEW_LENGTH = 120
# A reply may have 8 MiB; a page that shows it all helps nobody.
SHOWN_LENGTH = 200_000
NOTHING = "–"


def block(text: str) -> SafeString:
    """Show a text with its own line breaks, the first SHOWN_LENGTH characters of it."""
    left = len(text) - SHOWN_LENGTH
    return format_html(
        '<pre style="white-space: pre-wrap; overflow-wrap: anywhere; margin: 0">{}{}</pre>',
        text[:SHOWN_LENGTH],
        f"\n… and {left:,} more characters" if left > 0 else "",
    )


def pretty(value: Any) -> SafeString | str:
    """Show a JSON value indented; a text is read as JSON first."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except BadJSON:
            return block(value)
    return block(json.dumps(value, indent=2, ensure_ascii=False))


def preview(value: Any) -> str:
    """Show a value on one short line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # Cut first: the whole may be megabytes.
    text = " ".join(text[: 4 * PREVIEW_LENGTH].split())
    return text if len(text) <= PREVIEW_LENGTH else f"{text[: PREVIEW_LENGTH - 1]}…"


def table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> SafeString:
    return format_html(
        "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>",
        format_html_join("", "<th>{}</th>", ((head,) for head in heads)),
        format_html_join(
            "",
            "<tr>{}</tr>",
            ((format_html_join("", "<td>{}</td>", ((cell,) for cell in row)),) for row in rows),
        ),
    )


def as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def is_list(request: HttpRequest) -> bool:
    """Tell whether the request is for one of the admin's lists, and not for the page of one row."""
    match = request.resolver_match
    return match is not None and (match.url_name or "").endswith("_changelist")


class FoundById(OwnedAdmin):
    """Rows that are also found by their id, whatever prefix a dialect has put before it."""

    show_facets = ShowFacets.NEVER  # they count every row, once for each choice of each filter
    search_help_text = "a name, or an id"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet, search_term: str
    ) -> tuple[QuerySet, bool]:
        pk = as_uuid(search_term.strip().rpartition("_")[2])
        if pk is None:
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(pk=pk), False
