"""The grader that counts the characters to change from one text to the other."""

from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein as Edits

from apps.grading.graders.base import Mark, PlainGrader
from apps.grading.graders.sides import ReferenceGrader, first_content
from apps.grading.graders.text_similarity import LARGEST_TABLE, too_long
from apps.grading.samples import Sample


def levenshtein(text: str, ideal: str) -> float:
    """Return 1 - d / n, from 0 to 1; two empty texts score 1.

    d: the least number of code points to insert, delete or replace; a swap of neighbours counts
    two. n: the code points of the longer text. Source: Levenshtein 1966.
    """
    return Edits.normalized_similarity(text, ideal)


@dataclass(frozen=True)
class Levenshtein(ReferenceGrader, PlainGrader):
    """Score the similarity of `input` and `reference` by edit distance, see `levenshtein`.

    1 is equal; 0 means that no character could be kept. pass_threshold: pass at this score or
    above; without one the score neither passes nor fails. Of choices the first one's content is
    compared, of no choices the empty text; of several ideals the best score counts. Texts whose
    lengths multiply to more than LARGEST_TABLE are errored, as in text_similarity.
    Source: docs/contracts/spice.md, section 11.5.
    """

    kind = "levenshtein"

    pass_threshold: float | None = None

    def mark(self, sample: Sample) -> Mark:
        actual, accepted = self.accepted(sample)
        text, ideals = first_content(actual), [first_content(ideal) for ideal in accepted]
        if len(text) * sum(map(len, ideals)) > LARGEST_TABLE:
            return too_long(self.kind, text, max(ideals, key=len))
        value = max(levenshtein(text, ideal) for ideal in ideals)
        return Mark(value, None if self.pass_threshold is None else value >= self.pass_threshold)
