"""The grader that measures the distance between the embeddings of two texts."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from apps.clients.base import CallFailed
from apps.grading.graders.base import InvalidSetting, JudgeGrader, Mark, ModelCaller
from apps.grading.graders.sides import ReferenceGrader, first_content
from apps.grading.samples import Sample


@dataclass(frozen=True)
class EmbeddingDistance(ReferenceGrader, JudgeGrader):
    """Score 1 / (1 + d) for the Euclidean distance d of two embeddings: 1 is equal, near 0 is far.

    model: an embedding model of the account, called once for both texts: the reply's, then the
    ideal's, unchanged; of several ideals, all in the one call, the closest counts. Vectors of
    length one score 1/3 and up. pass_threshold: pass at this score or above; without one the score
    neither passes nor fails. Of choices the first one's content is embedded. A missing vector, or
    two of unequal lengths, makes an errored mark.
    Source: docs/contracts/spice.md, section 11.6.
    """

    kind = "embedding_distance"
    model_kind = "embedding"

    _: KW_ONLY
    model: str
    pass_threshold: float | None = None

    def __post_init__(self) -> None:
        if not self.model:
            raise InvalidSetting("model", "model must name an embedding model.")

    async def mark(self, sample: Sample, models: ModelCaller) -> Mark:
        actual, accepted = self.accepted(sample)
        texts = [first_content(side) for side in (actual, *accepted)]
        try:
            reply, *ideals = await models.embed(self.model, texts)
        except CallFailed as failure:
            return Mark.errored_by("embedding_failed", str(failure))
        for ideal in ideals:
            if not reply or len(reply) != len(ideal):
                return Mark.errored_by(
                    "embedding_failed",
                    f"The vectors of {self.model!r} cannot be compared: "
                    f"one has {len(reply)} numbers, the other {len(ideal)}.",
                )
        value = max(closeness(reply, ideal) for ideal in ideals)
        return Mark(value, None if self.pass_threshold is None else value >= self.pass_threshold)


def closeness(one: Sequence[float], other: Sequence[float]) -> float:
    """Return 1 / (1 + Euclidean distance) of two vectors of one length; 0 only by rounding."""
    return 1 / (1 + math.dist(one, other))
