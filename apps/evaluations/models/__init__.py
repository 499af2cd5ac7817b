"""The tables of evaluations: what is asked, of which model, and what came of it."""

from apps.evaluations.models.evaluations import Criterion, Evaluation
from apps.evaluations.models.results import Result, Score
from apps.evaluations.models.runs import Run
from apps.evaluations.models.shards import Shard
from apps.evaluations.models.spending import CallQuota, MonthSpending, SpendingLimits
from apps.evaluations.models.workers import MachineHeartbeat, WorkerHeartbeat

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
