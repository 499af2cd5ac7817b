"""The admin of evaluations, runs and results; importing it registers them."""

from apps.evaluations.admin import evaluations, queue, results, runs, spending, workers

__all__ = [
    "evaluations",
    "queue",
    "results",
    "runs",
    "spending",
    "workers",
]
