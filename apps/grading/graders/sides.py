"""Read the two sides of a comparison, reply and ideal: each a text or the choices of a chat."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from apps.clients.messages import array_in, is_message
from apps.clients.tidying import text_of
from apps.grading.graders.base import Grader
from apps.grading.samples import Sample
from apps.strict_json import dump_json
from apps.text import shown

IDEALS_TOLD = 5

Choices = list[Any]
Side = str | Choices


@dataclass(frozen=True)
class ReferenceGrader(Grader):
    """The base of graders that compare a reply with an ideal, and their common settings.

    input, reference: templates of the reply and of the ideal. choices: whether these may be chat
    choices. If so, a template that is one placeholder and nothing else stands for its value: as
    `input` a list is the reply's choices; as `reference` a list of choices, or a text that is a
    JSON array of them, is the ideal's choices; null is the empty text, and all else is text.
    With choices or without, a `reference` that stands for a list of texts means several ideals,
    each as good as the others: see `accepted`.
    Source: docs/contracts/spice.md, sections 10.3, 11 and 20.
    """

    input: str = "{{ sample.output_text }}"
    reference: str = "{{ item.ideal }}"
    choices: bool = False

    def templates(self) -> tuple[str, ...]:
        return (self.input, self.reference)

    def sides(self, sample: Sample) -> tuple[Side, Side]:
        """Read the reply and the ideal from a sample. Raises as Sample.render does."""
        if not self.choices:
            return sample.render(self.input), sample.render(self.reference)
        return read_reply(sample.value(self.input)), read_ideal(sample.value(self.reference))

    def accepted(self, sample: Sample) -> tuple[Side, list[Side]]:
        """Read the reply and every ideal that counts: one, or each text of a list of texts.

        Raises as Sample.render does.
        """
        reply, ideal = self.sides(sample)
        # Only a list is written so, with or without choices.
        if isinstance(ideal, str) and ideal.startswith("["):
            value = sample.value(self.reference)
            if is_texts(value):
                return reply, value
        return reply, [ideal]


def read_reply(value: Any) -> Side:
    """Read a list as choices, all else as text."""
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
    """Test for an object with an index and a message that has a role."""
    if not isinstance(value, dict) or "index" not in value:
        return False
    message = value.get("message")
    return isinstance(message, dict) and isinstance(message.get("role"), str)


def is_texts(value: Any) -> bool:
    """Test for a list of texts, of which there is at least one."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def warn_of_list(sample: Sample, template: str, rendered: str) -> str:
    """Warn of a template that stands for a list of texts, which a grader compares as its JSON."""
    if not rendered.startswith("[") or not is_texts(sample.value(template)):
        return ""
    return (
        "The reference is a list of texts, and was compared as its JSON. "
        "match, includes and fuzzy_match take any of them."
    )


def as_text(value: Any) -> str:
    """Return a text as it is, null as the empty text, and all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else dump_json(value)


def contents(side: Side) -> list[str]:
    """Return the content of every choice; a text is a list of one."""
    return [side] if isinstance(side, str) else [_content(choice) for choice in side]


def first_content(side: Side) -> str:
    """Return the text, or the first choice's content; of no choices the empty text."""
    return next(iter(contents(side)), "")


def describe(side: Side) -> str:
    """Quote a side for evidence."""
    if isinstance(side, str):
        return shown(side)
    return f"{len(side)} choice{'' if len(side) == 1 else 's'}, first {shown(first_content(side))}"


def describe_all(sides: Sequence[Side]) -> str:
    """Quote the ideals for evidence, the first of many."""
    if len(sides) == 1:
        return describe(sides[0])
    told = ", ".join(describe(side) for side in sides[:IDEALS_TOLD])
    return f"one of {told}" + (f" and {len(sides) - IDEALS_TOLD} more" * (len(sides) > IDEALS_TOLD))


def _content(choice: Any) -> str:
    """Return a choice's text; null is the empty text, and parts are joined."""
    message = choice.get("message") if isinstance(choice, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    return text_of(content)
