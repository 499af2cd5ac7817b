"""The tables of evaluations: what is asked, of which model, and what came of it."""

from apps.evaluations.models.columns import MOST_COLUMNS, Column, column_key
from apps.evaluations.models.evaluations import Criterion, Evaluation
from apps.evaluations.models.results import (
    MOST_REPEATS,
    MOST_ROWS,
    Result,
    key_in,
    key_of,
    number_in,
    row_in,
)
from apps.evaluations.models.runs import Run, RunNumber, new_number
from apps.evaluations.models.shards import Shard
from apps.evaluations.models.spending import CallQuota, MonthSpending, SpendingLimits
from apps.evaluations.models.versions import ResultVersion
from apps.evaluations.models.workers import MachineHeartbeat, UpkeepLease, WorkerHeartbeat

__all__ = [
    "MOST_COLUMNS",
    "MOST_REPEATS",
    "MOST_ROWS",
    "CallQuota",
    "Column",
    "Criterion",
    "Evaluation",
    "MachineHeartbeat",
    "MonthSpending",
    "Result",
    "ResultVersion",
    "Run",
    "RunNumber",
    "Shard",
    "SpendingLimits",
    "UpkeepLease",
    "WorkerHeartbeat",
    "column_key",
    "key_in",
    "key_of",
    "new_number",
    "number_in",
    "row_in",
]
