"""The admin of evaluations, runs, results and model servers; importing it registers them."""

from apps.evaluations.admin import endpoints, evaluations, results, runs, workers

__all__ = ["endpoints", "evaluations", "results", "runs", "workers"]
