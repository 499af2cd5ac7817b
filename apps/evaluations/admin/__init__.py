"""The admin of evaluations, runs, results and webhooks; importing it registers them."""

from apps.evaluations.admin import evaluations, queue, results, runs, spending, webhooks, workers

__all__ = [
    "evaluations",
    "queue",
    "results",
    "runs",
    "spending",
    "webhooks",
    "workers",
]
