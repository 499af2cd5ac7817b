"""The admin of evaluations, runs, results, servers and webhooks; importing it registers them."""

from apps.evaluations.admin import endpoints, evaluations, queue, results, runs, webhooks, workers

__all__ = ["endpoints", "evaluations", "queue", "results", "runs", "webhooks", "workers"]
