"""The grader that compares two texts character by character."""

import operator
from collections.abc import Callable
from dataclasses import dataclass

from apps.grading.graders.base import InvalidSetting, Mark, PlainGrader
from apps.grading.graders.sides import warn_of_list
from apps.grading.samples import Sample
from apps.text import quoted, shown

HOLDS: dict[str, Callable[[str, str], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "like": operator.contains,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}


@dataclass(frozen=True)
class StringCheck(PlainGrader):
    """Pass when the operation holds between `input` and `reference`; 1.0 or 0.0.

    input, reference: templates. operation: eq and ne compare the whole text, like and ilike look
    for `reference` inside `input` (ilike by Unicode case folding, so STRASSE is found in straße).
    Nothing is trimmed or normalised, no character is a wildcard, and every text contains the empty
    reference. A reference that is a list is its JSON, of which a warning tells where it fails.
    Source: docs/contracts/openai.md, section 13.1.
    """

    kind = "string_check"

    input: str
    reference: str
    operation: str

    def __post_init__(self) -> None:
        if self.operation not in HOLDS:
            known, given = ", ".join(HOLDS), quoted(self.operation)
            raise InvalidSetting("operation", f"operation must be one of {known}, not {given}.")

    def templates(self) -> tuple[str, ...]:
        return (self.input, self.reference)

    def mark(self, sample: Sample) -> Mark:
        text, reference = sample.render(self.input), sample.render(self.reference)
        passed = HOLDS[self.operation](text, reference)
        evidence = ""
        if sample.explains:
            evidence = f"{shown(text)} {self.operation} {shown(reference)}"
        if not passed and (warning := warn_of_list(sample, self.reference, reference)):
            return Mark(float(passed), passed, evidence, notes={"warning": warning})
        return Mark(float(passed), passed, evidence)
