"""A reply and its ideal as graders compare them: each a text, or the choices of a chat answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from apps.clients.messages import array_in, is_message
from apps.grading.graders.base import Grader
from apps.grading.samples import Sample
from apps.strict_json import dump_json
from apps.text import shown

Choices = list[Any]
Side = str | Choices


@dataclass(frozen=True)
class ReferenceGrader(Grader):
    """The settings of a grader that compares a reply with an ideal.

    input, reference: templates of the reply and of the ideal. choices: may they be chat choices?
    Then a template that is one placeholder and nothing else gives its value: of `input` a list is
    the reply's choices; of `reference` a list of choices, or a text that is a JSON array of them,
    is the ideal's choices; null is the empty text, and all else is text.
    Source: docs/contracts/spice.md, sections 10.3 and 11.
    """

    input: str = "{{ sample.output_text }}"
    reference: str = "{{ item.ideal }}"
    choices: bool = False

    def templates(self) -> tuple[str, ...]:
        return (self.input, self.reference)

    def sides(self, sample: Sample) -> tuple[Side, Side]:
        """The reply and the ideal. Raises as Sample.render does."""
        if not self.choices:
            return sample.render(self.input), sample.render(self.reference)
        return read_reply(sample.value(self.input)), read_ideal(sample.value(self.reference))


def read_reply(value: Any) -> Side:
    return value if isinstance(value, list) else as_text(value)


def read_ideal(value: Any) -> Side:
    """Read a list of choices, given as such or written as JSON; all else is text.

    Source: docs/contracts/spice.md, section 10.3.
    """
    return _listed(value, is_choice)


def read_prompt(value: Any) -> Side:
    """Read a list of messages, given as such or written as JSON; all else is text.

    Source: docs/contracts/spice.md, section 10.2.
    """
    return _listed(value, is_message)


def _listed(value: Any, fits: Callable[[Any], bool]) -> Side:
    if isinstance(value, list) and all(map(fits, value)):
        return value
    # An empty array that is written as text stays text.
    return (array_in(value, fits) if isinstance(value, str) else []) or as_text(value)


def is_choice(value: Any) -> bool:
    if not isinstance(value, dict) or "index" not in value:
        return False
    message = value.get("message")
    return isinstance(message, dict) and isinstance(message.get("role"), str)


def as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else dump_json(value)


def contents(side: Side) -> list[str]:
    """The content of every choice; a text counts as a list of one."""
    return [side] if isinstance(side, str) else [_content(choice) for choice in side]


def first_content(side: Side) -> str:
    """The text, or the first choice's content: the empty text where there is none."""
    return next(iter(contents(side)), "")


def describe(side: Side) -> str:
    """A side as evidence quotes it."""
    if isinstance(side, str):
        return shown(side)
    return f"{len(side)} choice{'' if len(side) == 1 else 's'}, first {shown(first_content(side))}"


def _content(choice: Any) -> str:
    """A choice's text: null is the empty text, parts are joined."""
    message = choice.get("message") if isinstance(choice, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""
