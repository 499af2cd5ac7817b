"""Describe for a page what each criterion said about a result."""

from collections.abc import Sequence
from dataclasses import dataclass

from apps.evaluations.models import Criterion, Result
from apps.evaluations.reports import (
    Item,
    Judgement,
)
from evalplatform.templatetags.formats import result_word


@dataclass(frozen=True)
class VerdictView:
    """A criterion's verdict on a result. state: a Result.State, or "missing" while it is due."""

    criterion: Criterion
    state: str
    value: float | None = None
    score: Judgement | None = None

    @property
    def label(self) -> str:
        # A score that passes nothing and fails nothing is a judgement all the same.
        is_score = self.state == Result.State.UNJUDGED and self.value is not None
        return "Scored" if is_score else result_word(self.state)

    @property
    def shows_value(self) -> bool:
        """Tell whether the value says more than the label."""
        return self.value is not None and (
            self.state == Result.State.UNJUDGED or self.value not in {0.0, 1.0}
        )


def verdicts_of(item: Item, criteria: Sequence[Criterion]) -> list[VerdictView]:
    verdicts = item.verdicts
    return [_verdict(criterion, verdicts.get(criterion.pk)) for criterion in criteria]


def _verdict(criterion: Criterion, score: Judgement | None) -> VerdictView:
    if score is None:
        return VerdictView(criterion, "missing")
    return VerdictView(criterion, score.state.value, score.value, score)
