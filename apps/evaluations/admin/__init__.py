"""The admin of evaluations, runs, results, servers and webhooks; importing it registers them."""

from apps.evaluations.admin import (
    completions,
    endpoints,
    evaluations,
    queue,
    results,
    runs,
    spending,
    webhooks,
    workers,
)

__all__ = [
    "completions",
    "endpoints",
    "evaluations",
    "queue",
    "results",
    "runs",
    "spending",
    "webhooks",
    "workers",
]
