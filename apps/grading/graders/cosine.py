"""The grader that compares the embeddings of two texts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from apps.clients.base import CallFailed
from apps.grading.graders.base import Fault, InvalidSetting, JudgeGrader, Mark, ModelCaller
from apps.grading.samples import Sample
from apps.text import quoted

# The metric by which a text_similarity grader is this one.
COSINE = "cosine"


@dataclass(frozen=True)
class CosineSimilarity(JudgeGrader):
    """Score by the cosine of the angle between the embeddings of two texts, clamped to 0..1.

    input, reference: templates of the texts. The account's own embedding model is called, once for
    both; an empty text on either side scores 0 without a call. pass_threshold: pass at this score
    or above; without one the score neither passes nor fails.
    Source: docs/contracts/openai.md, section 13.2.
    """

    kind = "text_similarity"
    model_kind = "embedding"
    model = ""

    input: str
    reference: str
    metric: str
    pass_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.metric != COSINE:
            given = quoted(self.metric)
            raise InvalidSetting("metric", f"metric must be cosine, not {given}.")

    def templates(self) -> tuple[str, ...]:
        return (self.input, self.reference)

    async def mark(self, sample: Sample, models: ModelCaller) -> Mark:
        text, reference = sample.render(self.input), sample.render(self.reference)
        if not text or not reference:
            return self._mark(0.0)
        try:
            first, second = await models.embed(self.model, [text, reference])
        except CallFailed as failure:
            return Mark(None, None, error=Fault("embedding_failed", str(failure)))
        return self._mark(min(max(cosine(first, second), 0.0), 1.0))

    def _mark(self, value: float) -> Mark:
        return Mark(value, None if self.pass_threshold is None else value >= self.pass_threshold)


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the cosine of two vectors; 0 where one is all zeros or the lengths differ."""
    norms = math.hypot(*first) * math.hypot(*second)
    if not norms or len(first) != len(second):
        return 0.0
    return math.fsum(a * b for a, b in zip(first, second, strict=True)) / norms
