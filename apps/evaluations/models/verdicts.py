"""Tell the verdicts of machines from the answers of people: nobody else looks at who judged."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from django.db import models


class ScoreSource(models.TextChoices):
    MACHINE = "machine", "Machine"
    HUMAN = "human", "Human"


class Judged(Protocol):
    """A score, whether it was read as a model or as plain values."""

    @property
    def source(self) -> str: ...


S = TypeVar("S", bound=Judged)


@dataclass(frozen=True)
class Reason:
    """The reason why a result is errored. criterion: the one that could not judge, or ""."""

    code: str
    message: str
    criterion: str = ""


class ScoreQuerySet(models.QuerySet[Any]):
    def by_machine(self) -> Self:
        return self.filter(source=ScoreSource.MACHINE)

    def first_reason(self) -> Reason | None:
        """Return why the first criterion, in the order of the evaluation, could not judge."""
        errored = self.by_machine().exclude(error_code="").order_by("criterion__position")
        score = errored.select_related("criterion").first()
        if score is None:
            return None
        return Reason(score.error_code, score.error_message, score.criterion.name)


def by_machine(scores: Iterable[S]) -> list[S]:
    """Keep the verdicts of machines, in their order."""
    return [score for score in scores if score.source == ScoreSource.MACHINE]
