"""Template filters by which pages show numbers, times and ids."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django import template
from django.utils.html import format_html

from apps.evaluations.reports import Cost, shown_money

register = template.Library()

NOTHING = "–"
NO_BREAK = "\N{NARROW NO-BREAK SPACE}"


@register.filter
def integer(value: int | None) -> str:
    """Group the digits: 12345 is 12,345."""
    return NOTHING if value is None else f"{value:,}"


@register.filter
def percent(value: float | None) -> str:
    """Show a share of 1 with one decimal: 0.8734 is 87.3%; exactly 0 and 1 are 0% and 100%.

    A share that only rounds to one of them says so: 0.9998 is >99.9%.
    """
    if value is None:
        return NOTHING
    if value in {0, 1}:
        return f"{value:.0%}"
    if 0 < value < 0.0005:
        return "<0.1%"
    if 0.9995 <= value < 1:
        return ">99.9%"
    return f"{value:.1%}"


@register.filter
def score(value: float | None) -> str:
    """Show three significant digits without trailing zeros: 0.0123, 1, 12.3, 1,230."""
    if value is None:
        return NOTHING
    rounded = float(f"{value:.3g}")
    if rounded == 0:
        return "0"
    if not 1e-4 <= abs(rounded) < 1e6:
        return f"{rounded:.2e}"
    text = f"{rounded:,.7f}"
    return text.rstrip("0").rstrip(".")


@register.filter
def money(amount: Decimal | None) -> str:
    """Show an amount of the currency that prices are in: 1.50, 0.000012."""
    return "unknown" if amount is None else shown_money(amount)


@register.filter
def cost(value: Cost) -> str:
    """Show the known part of a cost, and that there is an unknown one."""
    if value.is_wholly_unknown:
        return "unknown"
    return shown_money(value.amount) + (" + unknown" if value.unknown else "")


@register.filter
def duration(seconds: float | None) -> str:
    """Show a span of time in its two largest units: 340 ms, 4.2 s, 2 min 5 s, 3 h 10 min."""
    if seconds is None:
        return NOTHING
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f}{NO_BREAK}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}{NO_BREAK}s"
    whole = round(seconds)
    for size, unit, part, part_unit in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // part
            first = f"{whole // size}{NO_BREAK}{unit}"
            return f"{first} {rest}{NO_BREAK}{part_unit}" if rest else first
    return f"{whole}{NO_BREAK}s"


@register.filter
def moment(value: datetime | None) -> str:
    """Show a time to the minute, in UTC, and to the second under the pointer."""
    if value is None:
        return NOTHING
    utc = value.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        utc.isoformat(timespec="milliseconds"),
        f"{utc:%Y-%m-%d %H:%M:%S} UTC",
        f"{utc:%Y-%m-%d %H:%M}",
    )


@register.filter
def plural(count: int | None, words: str) -> str:
    """Choose the word that goes with a count: {{ n|plural:"row,rows" }}."""
    one, many = words.split(",")
    return one if count == 1 else many


@register.filter
def result_word(state: str) -> str:
    """Name a result's state. A result without a verdict may have a score."""
    return "No verdict" if state == "unjudged" else state.capitalize()


@register.filter
def first_line(value: Any, length: int = 120) -> str:
    """Put the text on one line and cut it to a length, so that a table keeps its shape."""
    text = " ".join(str(value).split())
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"
