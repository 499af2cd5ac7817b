"""Turn a result into texts to show: the question, the answer, the expected text, whole messages."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.evaluations.reports import Item
from apps.grading.samples import Sample, complete_sample
from apps.grading.templating import MissingVariable, RenderedTooLong, compile_template

EXCERPT_LENGTH = 400  # what a table's cell may hold; it shows less
SHOWN_LENGTH = 100_000  # a page with more of a text would be slow to open
SEPARATOR = " · "


@dataclass(frozen=True)
class Part:
    """A piece of a message or a value. kind: text, or json for the rest. more: characters cut."""

    kind: str
    text: str
    more: int = 0


@dataclass(frozen=True)
class Message:
    role: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Field:
    """A named value. filled: its template as filled from a row, None without a row."""

    name: str
    part: Part
    filled: str | None = None


@dataclass(frozen=True)
class Line:
    """A result in one line: the beginnings of its question, its answer and its expected text."""

    question: str
    answer: str
    expected: str


def line_of(item: Item, criteria: Sequence[Mapping[str, Any]]) -> Line:
    """Make the line of a result. criteria: the settings of each, in order."""
    texts = (question_of(item, criteria), answer_of(item, criteria), expected_of(item, criteria))
    return Line(*(text[:EXCERPT_LENGTH] for text in texts))


def question_of(item: Item, criteria: Sequence[Mapping[str, Any]]) -> str:
    """Return the prompt's last user message; without one, the fields that no criterion reads."""
    messages = messages_of(item.exchange.get("input"))
    if last := next((message for message in reversed(messages) if message.role == "user"), None):
        return SEPARATOR.join(part.text for part in last.parts)
    judged = {name for settings in criteria for name in _item_fields(settings)}
    rest = {name: value for name, value in item.item.items() if name not in judged}
    shown = (rest or item.item).values()
    return SEPARATOR.join(text for value in shown if (text := as_text(value)))


def answer_of(item: Item, criteria: Sequence[Mapping[str, Any]]) -> str:
    """Return the answer's text; without an answer, the `input` of the first criterion with one."""
    if item.sample is None:
        return _first_filled(item, criteria, "input")
    sample = complete_sample(item.sample)
    return as_text(sample.get("output_text") or sample.get("output_tools"))


def expected_of(item: Item, criteria: Sequence[Mapping[str, Any]]) -> str:
    """Return the `reference` of the first criterion that has one, filled."""
    return _first_filled(item, criteria, "reference")


def _first_filled(item: Item, criteria: Sequence[Mapping[str, Any]], name: str) -> str:
    for settings in criteria:
        template = settings.get(name)
        if isinstance(template, str) and (text := fill(template, item)):
            return text
    return ""


def fill(template: str, item: Item) -> str | None:
    """Fill a template from a row and its answer; None where something in it is missing."""
    sample = None if item.sample is None else complete_sample(item.sample)
    try:
        return Sample(item.item, sample).render(template)
    except (MissingVariable, RenderedTooLong):
        return None


def _item_fields(settings: Mapping[str, Any]) -> set[str]:
    """Return the fields of a row that a criterion's settings name."""
    templates = (value for value in settings.values() if isinstance(value, str))
    return {
        str(variable.path[0])
        for template in templates
        for variable in compile_template(template).variables
        if variable.namespace == "item" and variable.path
    }


def fields_of(item: Mapping[str, Any]) -> list[Field]:
    return [Field(name, part_of(value)) for name, value in item.items()]


def has_lines(part: Part) -> bool:
    """Tell whether this is a text of several lines, which JSON makes hard to read."""
    return part.kind == "text" and "\n" in part.text


def settings_of(settings: Mapping[str, Any], item: Item | None = None) -> list[Field]:
    """Return a criterion's settings, and for an item the templates among them filled."""
    found = []
    for name, value in settings.items():
        filled = None
        if item is not None and isinstance(value, str) and compile_template(value).variables:
            filled = fill(value, item)
        found.append(Field(name, part_of(value), filled))
    return found


def messages_of(messages: Any) -> list[Message]:
    """Return the messages of an exchange, without entries that are no message."""
    if not isinstance(messages, list):
        return []
    return [
        Message(str(message.get("role", "")), _message_parts(message))
        for message in messages
        if isinstance(message, dict)
    ]


def _message_parts(message: Mapping[str, Any]) -> list[Part]:
    parts = parts_of(message.get("content"))
    if calls := message.get("tool_calls"):
        parts.append(part_of(calls))
    return parts


def parts_of(content: Any) -> list[Part]:
    """Return the pieces of a message's content.

    Images stay addresses: loading one would tell its host.
    """
    if isinstance(content, str):
        return [part_of(content)] if content else []
    pieces = content if isinstance(content, list) else [content]
    parts = []
    for piece in pieces:
        if isinstance(piece, dict) and isinstance(piece.get("text"), str):
            parts.append(part_of(piece["text"]))
        elif piece is not None:
            parts.append(part_of(piece))
    return parts


def part_of(value: Any) -> Part:
    kind, text = ("text", value) if isinstance(value, str) else ("json", pretty(value))
    return Part(kind, text[:SHOWN_LENGTH], max(0, len(text) - SHOWN_LENGTH))


def answer_parts(item: Item) -> list[Part]:
    """Return the whole answer: its text and the tools it calls."""
    if item.sample is None:
        return []
    sample = complete_sample(item.sample)
    parts = [part_of(text)] if (text := sample.get("output_text")) else []
    if tools := sample.get("output_tools"):
        parts.append(part_of(tools))
    return parts


def pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def as_text(value: Any) -> str:
    """Return a value on one line."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)
