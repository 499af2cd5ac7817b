"""Kinds of target, which answer the items of a run: a module for each, listed here.

To add a kind, write its class beside the others and put it into TARGETS.
"""

from uuid import UUID

from apps.evaluations.models import Run
from apps.evaluations.targets.base import (
    Answer,
    Answerer,
    Prompt,
    Row,
    Spent,
    Target,
    Unfinished,
)
from apps.evaluations.targets.chat import Chat
from apps.evaluations.targets.recorded import Recorded

__all__ = [
    "TARGETS",
    "Answer",
    "Answerer",
    "Chat",
    "Prompt",
    "Recorded",
    "Row",
    "Spent",
    "Target",
    "Unfinished",
    "answering_target",
    "endpoints_of_run",
    "target_of_run",
]

TARGETS: dict[str, type[Target]] = {target.kind: target for target in (Chat, Recorded)}


def target_of_run(run: Run) -> Target:
    """Return the target that a run was started with."""
    stored = run.read_target()
    return TARGETS[stored["kind"]].read(stored)


def endpoints_of_run(run: Run) -> set[UUID]:
    """Return the model servers that a run asks: for its answers, and to judge them."""
    judges = run.read_target().get("judges", {}).values()
    found = {UUID(one["endpoint"]) for one in judges if "endpoint" in one}
    return found if run.endpoint_id is None else {*found, run.endpoint_id}


def answering_target(run: Run) -> Target:
    """Return the target that answers in a run: none, where it grades the answers of another."""
    return Recorded() if run.answers_of_id is not None else target_of_run(run)
