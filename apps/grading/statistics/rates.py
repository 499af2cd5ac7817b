"""Rates, means and repeated attempts, each with its standard error and confidence interval.

confidence: the level of an interval, 95 % by default. A figure that the data cannot give is
None, never NaN.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Rate:
    """A pass rate.

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

    units: the number of independent observations: the values, or the groups they fall into.
    value: None when there are none. standard_error, low, high: None below two units.
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
    """The pass rates of repeated attempts at each item.

    mean: the pass rate over all attempts, clustered by item. at_least_once: pass@k. every_time:
    pass^k. Both are means over the items with at least k attempts; left_out: the other items.
    """

    k: int
    mean: Mean
    at_least_once: Mean
    every_time: Mean
    left_out: int


def rate(passed: int, total: int, confidence: float = CONFIDENCE) -> Rate:
    """Return the pass rate with its score interval, which is right at 0, at 1 and for few items.

    Raises ValueError unless 0 <= passed <= total. Source: Wilson 1927.
    """
    if not 0 <= passed <= total:
        raise ValueError(f"{passed} passed of {total}")
    if total == 0:
        return Rate(0, 0, None, None, 0.0, 1.0)
    value = passed / total
    z_squared = normal_quantile(confidence) ** 2
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
    """Return what `mean` would, from sums that a database can compute.

    Exact enough for scores of order one. A standard deviation a million times smaller than the
    mean is lost in rounding.
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
    """Return the rates of repeated attempts.

    items: the number of items for each pair of attempts and passed attempts. Items without an
    attempt count in left_out only. Sources: as of `pass_at_k`, `pass_hat_k`, `clustered_mean`.
    """
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


def _mean(count: int, units: int, value: float, squares: float, confidence: float) -> Mean:
    """Build a mean from the sum of squared residuals of its units."""
    if count == 0:
        return Mean(0, 0, None, None, None, None)
    if units < 2:
        return Mean(count, units, value, None, None, None)
    error = math.sqrt(squares * units / (units - 1)) / count
    reach = student_quantile(units - 1, confidence) * error
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
def normal_quantile(confidence: float) -> float:
    """Return z, so that a standard normal value lies in -z to z with this probability."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


@lru_cache(maxsize=1024)
def student_quantile(degrees: int, confidence: float) -> float:
    """Return the same of Student's distribution with these degrees of freedom."""
    from scipy import special  # noqa: PLC0415  scipy costs a second of import

    return float(special.stdtrit(degrees, (1 + confidence) / 2))
