"""The tables of evaluations: what is asked, of which model, and what came of it."""

from apps.evaluations.models.endpoints import EndpointSlot, ModelEndpoint, ServedModel
from apps.evaluations.models.evaluations import Criterion, Evaluation
from apps.evaluations.models.runs import MachineBeat, Result, Run, Score, Shard, WorkerBeat

__all__ = [
    "Criterion",
    "EndpointSlot",
    "Evaluation",
    "MachineBeat",
    "ModelEndpoint",
    "Result",
    "Run",
    "Score",
    "ServedModel",
    "Shard",
    "WorkerBeat",
]
