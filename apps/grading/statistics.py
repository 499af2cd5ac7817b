"""Rates, means and paired comparisons of runs, each with the uncertainty it carries.

Intervals are at the confidence asked for, 95 % unless told. A figure that the data cannot give is
None, never NaN.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from statistics import NormalDist

CONFIDENCE = 0.95
ALPHA = 0.05
# Below this no word is given: of ten pairs that change, nine must go the same way to count.
MIN_UNITS = 10


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of `total` passed.

    value: passed / total, None when total is 0. low, high: Wilson's interval, (0, 1) when total
    is 0. standard_error: of the mean of the ones and zeros (n-1), None below two.
    """

    passed: int
    total: int
    value: float | None
    standard_error: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of `count` values.

    units: how many independent pieces of evidence stand behind it: the values, or the groups they
    fall into. value: None when there are none. standard_error, low, high: None below two units.
    The interval is Student's with units-1 degrees of freedom; it is not cut at a score's range.
    """

    count: int
    units: int
    value: float | None
    standard_error: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Repeats:
    """What repeated attempts at each item show together.

    mean: the pass rate over all attempts, clustered by item. at_least_once: pass@k. every_time:
    pass^k. Both are means over the items that have k attempts; `left_out` counts the others.
    """

    k: int
    mean: Mean
    at_least_once: Mean
    every_time: Mean
    left_out: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A second run against a first, pair by pair on the item; what errored in either is no pair.

    first, second: the mean or rate of each over the pairs; difference: second minus first, with
    its interval low to high. units: the pairs, or the groups they fall into. test: where p_value
    (two-sided) is from. effect: Cohen's g for rates, Cohen's d_z for values. wilcoxon_p: the rank
    test beside the t test, for values that are far from normal. All None without pairs.
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
    """What a comparison comes to, in a word."""

    IMPROVED = "improved"
    DEGRADED = "degraded"
    INCONCLUSIVE = "inconclusive"
    TOO_FEW_SAMPLES = "too few samples"


@dataclass(frozen=True, slots=True)
class Finding:
    """A comparison's conclusion; adjusted_p is Holm's, None where too few samples were compared."""

    comparison: Comparison
    adjusted_p: float | None
    conclusion: Conclusion


def rate(passed: int, total: int, confidence: float = CONFIDENCE) -> Rate:
    """Return the rate with its score interval, which holds at 0, at 1 and for small totals.

    Raises ValueError unless 0 <= passed <= total. Source: Wilson 1927.
    """
    if not 0 <= passed <= total:
        raise ValueError(f"{passed} passed of {total}")
    if total == 0:
        return Rate(0, 0, None, None, 0.0, 1.0)
    value = passed / total
    z_squared = _z(confidence) ** 2
    centre = value + z_squared / (2 * total)
    reach = math.sqrt(z_squared * (value * (1 - value) / total + z_squared / (4 * total**2)))
    scale = 1 + z_squared / total
    return Rate(
        passed,
        total,
        value,
        math.sqrt(value * (1 - value) / (total - 1)) if total > 1 else None,
        max(0.0, (centre - reach) / scale) if passed else 0.0,
        min(1.0, (centre + reach) / scale) if passed < total else 1.0,
    )


def mean(values: Iterable[float], confidence: float = CONFIDENCE) -> Mean:
    """Return the mean of independent values with its standard error (n-1) and t interval."""
    held = list(values)
    centre = math.fsum(held) / len(held) if held else 0.0
    squares = math.fsum((value - centre) ** 2 for value in held)
    return _mean(len(held), len(held), centre, squares, confidence)


def mean_from_sums(
    count: int, total: float, total_of_squares: float, confidence: float = CONFIDENCE
) -> Mean:
    """Return what `mean` would, from the sums a database can keep.

    Exact enough for scores of order one; a spread a million times smaller than the mean drowns in
    rounding.
    """
    centre = total / count if count else 0.0
    squares = max(0.0, total_of_squares - total * centre)
    return _mean(count, count, centre, squares, confidence)


def clustered_mean(
    values: Sequence[float], groups: Sequence[Hashable], confidence: float = CONFIDENCE
) -> Mean:
    """Return the mean of values that are independent only from group to group.

    groups: each value's group, as long as `values`. The variance is (G/(G-1)) times the sum of
    squared group residuals over n squared: with every value its own group it is that of `mean`.
    Source: Liang and Zeger 1986, with the G/(G-1) of Cameron and Miller 2015; for evaluations
    Miller 2024, "Adding error bars to evals".
    """
    centre = math.fsum(values) / len(values) if values else 0.0
    residuals: defaultdict[Hashable, float] = defaultdict(float)
    for value, group in zip(values, groups, strict=True):
        residuals[group] += value - centre
    squares = math.fsum(residual**2 for residual in residuals.values())
    return _mean(len(values), len(residuals), centre, squares, confidence)


def pass_at_k(attempts: int, passed: int, k: int) -> float:
    """Estimate, without bias, the chance that at least one of k attempts passes.

    Raises ValueError unless 0 <= passed <= attempts and 1 <= k <= attempts.
    Source: Chen et al. 2021, "Evaluating large language models trained on code", formula 1.
    """
    _check_attempts(attempts, passed, k)
    return 1 - math.comb(attempts - passed, k) / math.comb(attempts, k)


def pass_hat_k(attempts: int, passed: int, k: int) -> float:
    """Estimate, without bias, the chance that all of k attempts pass (pass^k).

    Raises ValueError as `pass_at_k` does. Source: Yao et al. 2024, "tau-bench".
    """
    _check_attempts(attempts, passed, k)
    return math.comb(passed, k) / math.comb(attempts, k)


def repeats(
    items: Mapping[tuple[int, int], int], k: int, confidence: float = CONFIDENCE
) -> Repeats:
    """Sum up repeated attempts; `items` counts the items by (attempts, passed)."""
    attempts = sum(count * tried for (tried, _), count in items.items())
    passed = sum(count * won for (_, won), count in items.items())
    centre = passed / attempts if attempts else 0.0
    squares = math.fsum(
        count * (won - tried * centre) ** 2 for (tried, won), count in items.items()
    )
    tried_items = sum(count for (tried, _), count in items.items() if tried)
    enough = {key: count for key, count in items.items() if key[0] >= k}
    return Repeats(
        k,
        _mean(attempts, tried_items, centre, squares, confidence),
        _mean_of_counted([(pass_at_k(*key, k), n) for key, n in enough.items()], confidence),
        _mean_of_counted([(pass_hat_k(*key, k), n) for key, n in enough.items()], confidence),
        sum(items.values()) - sum(enough.values()),
    )


def compare_rates(
    both: int, first_only: int, second_only: int, neither: int, confidence: float = CONFIDENCE
) -> Comparison:
    """Compare two runs' passes, from how many items passed in both, in one only, in neither.

    The interval is the score interval of Tango 1998: it holds when few or no pairs differ, and
    does not depend on how those that agree are divided. p_value is McNemar's exact conditional
    test, which is the more cautious of the two, so that near the border an interval may leave out
    0 while p is above 0.05; a conclusion follows p. effect is g, the share of one direction among
    the pairs that differ minus a half: -0.5 to 0.5, None when none differ.
    Sources: Tango 1998, Statistics in Medicine 17:891; McNemar 1947; Cohen 1988, chapter 5.
    """
    counts = (both, first_only, second_only, neither)
    if min(counts) < 0:
        raise ValueError(f"negative counts: {counts}")
    pairs, differing = sum(counts), first_only + second_only
    if pairs == 0:
        return _no_pairs("exact McNemar")
    low, high = _tango(second_only, first_only, pairs, _z(confidence))
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
    """Compare two runs' values, given in the same order of items.

    groups: each item's group, where items share one; then the standard error is that of
    `clustered_mean`, and there is no rank test. Passes in groups are compared here too, as ones
    and zeros. Without spread p is 1 when nothing differs and 0 when all pairs differ by the same.
    effect is d_z, the mean difference over the standard deviation of the differences: any real
    number, None without spread. low, high, p_value are None below two units.
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
    """Adjust p values for being several, in the order given; each at most 1.

    Of m, the smallest is multiplied by m, the next by m-1, and none falls below one before it.
    Source: Holm 1979.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, position in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = highest
    return adjusted


def findings(comparisons: Sequence[Comparison], alpha: float = ALPHA) -> list[Finding]:
    """Say of each comparison, one for each criterion, what it comes to; higher is better.

    Fewer than MIN_UNITS pairs (groups, where pairs share them): too few samples, and not tested.
    The others' p values are adjusted together by Holm. At most alpha: improved or degraded, by
    the sign of the difference. Above: inconclusive, which is not the same as equal.
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


def _mean(count: int, units: int, value: float, squares: float, confidence: float) -> Mean:
    """Build a mean from the sum of squared residuals of its units."""
    if count == 0:
        return Mean(0, 0, None, None, None, None)
    if units < 2:
        return Mean(count, units, value, None, None, None)
    error = math.sqrt(squares * units / (units - 1)) / count
    reach = _t(units - 1, confidence) * error
    return Mean(count, units, value, error, value - reach, value + reach)


def _mean_of_counted(values: Sequence[tuple[float, int]], confidence: float) -> Mean:
    count = sum(times for _, times in values)
    centre = math.fsum(value * times for value, times in values) / count if count else 0.0
    squares = math.fsum(times * (value - centre) ** 2 for value, times in values)
    return _mean(count, count, centre, squares, confidence)


def _check_attempts(attempts: int, passed: int, k: int) -> None:
    if not 0 <= passed <= attempts:
        raise ValueError(f"{passed} passed of {attempts}")
    if not 1 <= k <= attempts:
        raise ValueError(f"k is {k} of {attempts} attempts")


@lru_cache(maxsize=64)
def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


@lru_cache(maxsize=1024)
def _t(degrees: int, confidence: float) -> float:
    from scipy import special  # noqa: PLC0415  scipy costs a second of import

    return float(special.stdtrit(degrees, (1 + confidence) / 2))


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
    """Return the two-sided chance of a split as uneven as this, were each side as likely."""
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
