"""Rates, means and paired comparisons of runs, each with the uncertainty it carries."""

from apps.grading.statistics.comparisons import (
    ALPHA,
    MIN_UNITS,
    Comparison,
    Conclusion,
    Finding,
    compare_rates,
    compare_values,
    findings,
    holm,
)
from apps.grading.statistics.rates import (
    CONFIDENCE,
    Mean,
    Rate,
    Repeats,
    clustered_mean,
    mean,
    mean_from_sums,
    pass_at_k,
    pass_hat_k,
    rate,
    repeats,
)

__all__ = [
    "ALPHA",
    "CONFIDENCE",
    "MIN_UNITS",
    "Comparison",
    "Conclusion",
    "Finding",
    "Mean",
    "Rate",
    "Repeats",
    "clustered_mean",
    "compare_rates",
    "compare_values",
    "findings",
    "holm",
    "mean",
    "mean_from_sums",
    "pass_at_k",
    "pass_hat_k",
    "rate",
    "repeats",
]
