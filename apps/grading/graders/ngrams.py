"""BLEU, GLEU and ROUGE: scores by the n-grams or the subsequence that two texts share."""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import LCSseq

HIGHEST_ORDER = 4

_ALPHANUMERIC = b"abcdefghijklmnopqrstuvwxyz0123456789"
_ELSE_SPACE = bytes(byte if byte in _ALPHANUMERIC else 0x20 for byte in range(256))


def words(text: str) -> list[str]:
    """Split the text at Unicode whitespace."""
    return text.split()


def alphanumerics(text: str) -> list[bytes]:
    """Split the lower-cased text into its runs of a-z and 0-9.

    All other characters separate, letters of other scripts and accented letters included.
    Returned as bytes, since a translation table is faster than a regular expression.
    Source: rouge-score's default tokeniser.
    """
    return text.lower().encode("ascii", "replace").translate(_ELSE_SPACE).split()


@dataclass(frozen=True, slots=True)
class Overlap:
    """The number of n-grams that a text shares with its reference: matches[n - 1] of order n.

    length, reference_length: in tokens.
    """

    length: int
    reference_length: int
    matches: tuple[int, ...]


def overlap(tokens: Sequence[Hashable], reference: Sequence[Hashable]) -> Overlap:
    """Count the shared n-grams of order 1 to HIGHEST_ORDER."""
    matches = [0] * HIGHEST_ORDER
    for order in range(1, HIGHEST_ORDER + 1):
        matches[order - 1] = shared(tokens, reference, order)
        # A shared n-gram holds shared ones of every lower order.
        if not matches[order - 1]:
            break
    return Overlap(len(tokens), len(reference), tuple(matches))


def shared(tokens: Sequence[Hashable], reference: Sequence[Hashable], order: int) -> int:
    """Count the tokens' n-grams that the reference has too, each at most as often as there."""
    unspent: dict[Hashable, int] = {}
    available = unspent.get
    for gram in _grams(reference, order):
        unspent[gram] = available(gram, 0) + 1
    count = 0
    for gram in _grams(tokens, order):
        if left := available(gram):
            unspent[gram] = left - 1
            count += 1
    return count


def bleu(overlap: Overlap) -> float:
    """Return sentence BLEU: brevity penalty times the geometric mean of n-gram precisions.

    The k-th order without a match counts as 1 / 2**k of one match (exponential smoothing), and
    orders longer than the text are left out (effective order). 0 when not even a word is shared.
    Source: Papineni et al. 2002; Chen and Cherry 2014, smoothing 3; equals sacrebleu's
    sentence_bleu with tokenize="none", divided by 100.
    """
    if not overlap.matches[0]:
        return 0.0
    totals = [total for total in _totals(overlap.length) if total]
    smoothed = 1.0
    logarithms = []
    for matched, total in zip(overlap.matches, totals, strict=False):
        if not matched:
            smoothed /= 2
        logarithms.append(math.log((matched or smoothed) / total))
    brevity = min(1.0, math.exp(1 - overlap.reference_length / overlap.length))
    return brevity * math.exp(sum(logarithms) / len(logarithms))


def gleu(overlap: Overlap) -> float:
    """Return Google BLEU: the lesser of precision and recall over all n-grams of order 1 to 4.

    0 when both texts are empty. Source: Wu et al. 2016, section 4.5; equals nltk's sentence_gleu.
    """
    total = sum(_totals(max(overlap.length, overlap.reference_length)))
    return sum(overlap.matches) / total if total else 0.0


def rouge_n(tokens: Sequence[Hashable], reference: Sequence[Hashable], order: int) -> float:
    """Return the F-measure of the n-grams of one order; 0 when either text is shorter than that.

    Source: Lin 2004, section 2; equals rouge-score's fmeasure.
    """
    total, reference_total = len(tokens) - order + 1, len(reference) - order + 1
    if total < 1 or reference_total < 1:
        return 0.0
    return _f_measure(shared(tokens, reference, order), total, reference_total)


def rouge_l(tokens: Sequence[Hashable], reference: Sequence[Hashable]) -> float:
    """Return the F-measure of the longest common subsequence; 0 when either text has no token.

    Source: Lin 2004, section 3.1; equals rouge-score's fmeasure of rougeL.
    """
    if not tokens or not reference:
        return 0.0
    return _f_measure(LCSseq.similarity(tokens, reference), len(tokens), len(reference))


def _grams(tokens: Sequence[Hashable], order: int) -> Iterable[Hashable]:
    if order == 1:
        return tokens
    return zip(*(tokens[start:] for start in range(order)), strict=False)


def _totals(length: int) -> list[int]:
    """Count the n-grams of order 1, 2, ... in a text of this many tokens."""
    return [max(0, length - order) for order in range(HIGHEST_ORDER)]


def _f_measure(matched: int, total: int, reference_total: int) -> float:
    # 2PR / (P + R) with P = matched / total and R = matched / reference_total.
    return 2 * matched / (total + reference_total)
