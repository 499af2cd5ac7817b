"""Keep sums by criterion and by model that grow as results are stored; written as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from apps.strict_json import dump_json, parse_json

# A criterion's sums, in this order.
PASSED, FAILED, ERRORED, SCORED, TOTAL, SQUARES = range(6)
# A model's sums, in this order.
CALLS, PROMPT, COMPLETION, TOKENS, CACHED = range(5)


@dataclass
class Tally:
    """Sums. criteria: id in hex -> passed, failed, errored, count of values, sum, squares.

    models: name -> calls, prompt, completion, total and cached tokens, for answers and for
    judgements together; judging: the part of it that judges took.
    """

    criteria: dict[str, list[float]] = field(default_factory=dict)
    models: dict[str, list[int]] = field(default_factory=dict)
    judging: dict[str, list[int]] = field(default_factory=dict)

    def judge(
        self,
        criterion: str,
        value: float | None,
        passed: bool | None,
        errored: bool,
        times: int = 1,
    ) -> None:
        """Count a verdict; times: -1 takes it out again."""
        sums = self.criteria.get(criterion)
        if sums is None:
            sums = self.criteria[criterion] = [0, 0, 0, 0, 0.0, 0.0]
        if errored:
            sums[ERRORED] += times
        elif passed is not None:
            sums[PASSED if passed else FAILED] += times
        if value is not None:
            sums[SCORED] += times
            sums[TOTAL] += times * value
            sums[SQUARES] += times * value * value

    def use(self, model: str, counts: Sequence[int], *, judging: bool = False) -> None:
        _add(self.models, model, counts)
        if judging:
            _add(self.judging, model, counts)

    def answering(self) -> dict[str, list[int]]:
        """Return the part of `models` that answers took."""
        took = {}
        for model, sums in self.models.items():
            judged = self.judging.get(model, [0] * len(sums))
            rest = [whole - part for whole, part in zip(sums, judged, strict=True)]
            if any(rest):
                took[model] = rest
        return took

    def add(self, other: "Tally") -> None:
        for criterion, sums in other.criteria.items():
            mine = self.criteria.setdefault(criterion, [0, 0, 0, 0, 0.0, 0.0])
            for index, value in enumerate(sums):
                mine[index] += value
        for model, counts in other.models.items():
            _add(self.models, model, counts)
        for model, counts in other.judging.items():
            _add(self.judging, model, counts)

    def dump(self) -> str:
        sums: dict[str, object] = {"criteria": self.criteria, "models": self.models}
        return dump_json(sums | {"judging": self.judging} if self.judging else sums)

    @classmethod
    def load(cls, text: str) -> Self:
        data = parse_json(text)
        return cls(data.get("criteria", {}), data.get("models", {}), data.get("judging", {}))


def _add(models: dict[str, list[int]], model: str, counts: Sequence[int]) -> None:
    sums = models.setdefault(model, [0, 0, 0, 0, 0])
    for index, count in enumerate(counts):
        sums[index] += count
