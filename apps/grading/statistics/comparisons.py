"""Compare two runs pair by pair, and conclude whether the second is better.

confidence: the level of an interval, 95 % by default. A figure that the data cannot give is
None, never NaN.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from apps.grading.statistics.rates import (
    CONFIDENCE,
    Mean,
    clustered_mean,
    mean,
    normal_quantile,
)

ALPHA = 0.05
# Fewer pairs are not tested: even of ten that differ, nine must go one way to be significant.
MIN_UNITS = 10


@dataclass(frozen=True, slots=True)
class Comparison:
    """A second run compared with a first, paired by item; an item errored in either is no pair.

    first, second: the mean or rate of each over the pairs. difference: second minus first, with
    its interval from low to high. units: the pairs, or the groups they fall into. test: the name
    of the test that gave p_value, which is two-sided. effect: Cohen's g for rates, Cohen's d_z
    for values. wilcoxon_p: of the rank test, for values that are far from normal. All None
    without pairs.
    """

    pairs: int
    units: int
    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    test: str
    p_value: float | None
    effect: float | None
    wilcoxon_p: float | None = None


class Conclusion(StrEnum):
    """The conclusion from a comparison, in the words that users read."""

    IMPROVED = "improved"
    DEGRADED = "degraded"
    INCONCLUSIVE = "inconclusive"
    TOO_FEW_SAMPLES = "too few samples"


@dataclass(frozen=True, slots=True)
class Finding:
    """A comparison with its conclusion.

    adjusted_p: p_value adjusted by Holm; None with too few samples.
    """

    comparison: Comparison
    adjusted_p: float | None
    conclusion: Conclusion


def compare_rates(
    both: int, first_only: int, second_only: int, neither: int, confidence: float = CONFIDENCE
) -> Comparison:
    """Compare two runs' pass rates, from the items that passed in both, in one only, in neither.

    The interval is the score interval of Tango 1998: it is right when few or no pairs differ, and
    does not depend on how the equal pairs divide into passed and failed. p_value is of McNemar's
    exact conditional test. That test is the more cautious, so the interval may exclude 0 while p
    is a little above 0.05; a conclusion follows p. effect is g: the share of the gains among the
    pairs that differ, minus a half; -0.5 to 0.5, None when none differ. Raises ValueError for
    negative counts.
    Sources: Tango 1998, Statistics in Medicine 17:891; McNemar 1947; Cohen 1988, chapter 5.
    """
    counts = (both, first_only, second_only, neither)
    if min(counts) < 0:
        raise ValueError(f"negative counts: {counts}")
    pairs, differing = sum(counts), first_only + second_only
    if pairs == 0:
        return _no_pairs("exact McNemar")
    low, high = _tango(second_only, first_only, pairs, normal_quantile(confidence))
    return Comparison(
        pairs=pairs,
        units=pairs,
        first=(both + first_only) / pairs,
        second=(both + second_only) / pairs,
        difference=(second_only - first_only) / pairs,
        low=low,
        high=high,
        test="exact McNemar",
        p_value=_sign_test(min(first_only, second_only), differing),
        effect=second_only / differing - 0.5 if differing else None,
    )


def compare_values(
    first: Sequence[float],
    second: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compare two runs' values by the paired t test, given in the same order of items.

    groups: each item's group, where items share one; then the standard error is that of
    `clustered_mean`, and there is no rank test. Passes in groups are compared here too, as ones
    and zeros. When all differences are equal, p is 1 if they are 0, else 0. effect is d_z, the
    mean difference over the standard deviation of the differences: any real number, None when all
    are equal. low, high, p_value are None below two units. Raises ValueError for runs of unequal
    length.
    Sources: Student 1908; Wilcoxon 1945; Lakens 2013.
    """
    differences = [after - before for before, after in zip(first, second, strict=True)]
    pairs = len(differences)
    plain = mean(differences, confidence)
    shown = plain if groups is None else clustered_mean(differences, groups, confidence)
    test = "paired t" if shown.units == pairs else "clustered t"
    if shown.value is None:
        return _no_pairs(test)
    return Comparison(
        pairs=pairs,
        units=shown.units,
        first=math.fsum(first) / pairs,
        second=math.fsum(second) / pairs,
        difference=shown.value,
        low=shown.low,
        high=shown.high,
        test=test,
        p_value=_t_test(shown),
        effect=_d_z(plain),
        wilcoxon_p=_wilcoxon(differences) if shown.units == pairs else None,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for multiple comparisons, in the order given; each at most 1.

    The smallest of m is multiplied by m, the next by m-1 and so on; none may fall below one
    before it. Source: Holm 1979.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, position in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = highest
    return adjusted


def findings(comparisons: Sequence[Comparison], alpha: float = ALPHA) -> list[Finding]:
    """Conclude from the comparisons of two runs, one for each criterion; higher is better.

    Fewer than MIN_UNITS units: too few samples, and the p value does not count among the several.
    The p values of the others are adjusted together by Holm. An adjusted p of at most alpha:
    improved or degraded, by the sign of the difference. Above: inconclusive, which does not mean
    equal.
    """
    p_values = [
        comparison.p_value if comparison.units >= MIN_UNITS else None for comparison in comparisons
    ]
    adjusted = iter(holm([p for p in p_values if p is not None]))
    found = []
    for comparison, p in zip(comparisons, p_values, strict=True):
        adjusted_p = None if p is None else next(adjusted)
        found.append(Finding(comparison, adjusted_p, _word(comparison, adjusted_p, alpha)))
    return found


def _word(comparison: Comparison, adjusted_p: float | None, alpha: float) -> Conclusion:
    if adjusted_p is None or comparison.difference is None:
        return Conclusion.TOO_FEW_SAMPLES
    if adjusted_p > alpha or comparison.difference == 0:
        return Conclusion.INCONCLUSIVE
    return Conclusion.IMPROVED if comparison.difference > 0 else Conclusion.DEGRADED


def _no_pairs(test: str) -> Comparison:
    return Comparison(0, 0, None, None, None, None, None, test, None, None)


def _t_test(difference: Mean) -> float | None:
    if difference.value is None or difference.standard_error is None:
        return None
    if difference.standard_error == 0:
        return float(difference.value == 0)
    from scipy import special  # noqa: PLC0415  scipy costs a second of import

    t = difference.value / difference.standard_error
    return float(2 * special.stdtr(difference.units - 1, -abs(t)))


def _d_z(difference: Mean) -> float | None:
    if difference.value is None or not difference.standard_error:
        return None
    return difference.value / (difference.standard_error * math.sqrt(difference.count))


def _sign_test(fewer: int, differing: int) -> float:
    """Return the two-sided p of a split at least as uneven as this, were both sides as likely."""
    from scipy import special  # noqa: PLC0415  scipy costs a second of import

    return min(1.0, 2 * float(special.bdtr(fewer, differing, 0.5)))


def _wilcoxon(differences: Sequence[float]) -> float | None:
    if len(differences) < 2:
        return None
    if not any(differences):
        return 1.0
    from scipy import stats  # noqa: PLC0415  scipy costs a second of import

    return float(stats.wilcoxon(differences).pvalue)


def _tango(gains: int, losses: int, pairs: int, z: float) -> tuple[float, float]:
    """Return the differences at which the score statistic is z and -z, found by halving."""
    estimate = (gains - losses) / pairs

    def crossing(low: float, high: float, target: float) -> float:
        for _ in range(60):
            middle = (low + high) / 2
            if _score(gains, losses, pairs, middle) > target:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    return crossing(-1.0, estimate, z), crossing(estimate, 1.0, -z)


def _score(gains: int, losses: int, pairs: int, difference: float) -> float:
    """Return Tango's statistic for a true difference; it falls as the difference grows."""
    distance = gains - losses - pairs * difference
    # The likeliest rate of losses, were this the true difference, solves a*q*q + b*q + c = 0.
    a = 2 * pairs
    b = -gains - losses + (2 * pairs - gains + losses) * difference
    c = -losses * difference * (1 - difference)
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    # Of the solution's two forms, the one that does not subtract near equals.
    losing = (root - b) / (2 * a) if b <= 0 else -2 * c / (root + b)
    variance = pairs * (2 * losing + difference * (1 - difference))
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)
