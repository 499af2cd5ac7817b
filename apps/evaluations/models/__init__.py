"""The tables of evaluations: what is asked, of which model, and what came of it."""

from apps.evaluations.models.evaluations import Criterion, Evaluation
from apps.evaluations.models.runs import MachineBeat, Result, Run, Score, Shard, WorkerBeat
from apps.evaluations.models.spending import CallQuota, MonthSpending, SpendingLimits

__all__ = [
    "CallQuota",
    "Criterion",
    "Evaluation",
    "MachineBeat",
    "MonthSpending",
    "Result",
    "Run",
    "Score",
    "Shard",
    "SpendingLimits",
    "WorkerBeat",
]
