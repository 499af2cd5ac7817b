"""The tables of evaluations: what is asked, of which model, and what came of it."""

from apps.evaluations.models.evaluations import Criterion, Evaluation
from apps.evaluations.models.runs import (
    MachineHeartbeat,
    Result,
    Run,
    Score,
    Shard,
    WorkerHeartbeat,
)
from apps.evaluations.models.spending import CallQuota, MonthSpending, SpendingLimits

__all__ = [
    "CallQuota",
    "Criterion",
    "Evaluation",
    "MachineHeartbeat",
    "MonthSpending",
    "Result",
    "Run",
    "Score",
    "Shard",
    "SpendingLimits",
    "WorkerHeartbeat",
]
