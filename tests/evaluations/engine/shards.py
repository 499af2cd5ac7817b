"""Claim shards by hand and make up what came of their rows."""

from collections.abc import Iterable
from typing import Any

from apps.clients import Usage
from apps.evaluations.engine.assignments import Assignments, Claim, WorkerState
from apps.evaluations.engine.coordinator import Coordinator
from apps.evaluations.engine.plan import claim_plan, plan_run
from apps.evaluations.engine.store import HeldShard, Judged, Outcome
from apps.evaluations.models import Run, Shard
from apps.evaluations.targets import Spent
from apps.grading.graders.base import Fault, Mark
from apps.ids import new_id
from apps.leases import database_now


def plan(run: Run) -> Run:
    """Plan the only queued run."""
    claimed = plan_of(run)
    assert claimed is not None
    plan_run(claimed)
    run.refresh_from_db()
    return run


def plan_of(run: Run) -> Run | None:
    """The run in the hands of a planner, or None when it is in another's."""
    found = Run.objects.plannable(database_now()).filter(pk=run.pk).first()
    return None if found is None else claim_plan(found)


def coordinator() -> Coordinator:
    return Coordinator(new_id())


def poll(coordinator: Coordinator, **state: Any) -> Assignments:
    """A poll of a worker that holds nothing, unless the state says otherwise."""
    state.setdefault("held", [])
    defaults = {
        "capacity": {},
        "spare": 8_000,
        "slots": {},
        "budget_requests": {},
        "may_claim": True,
        "may_plan": False,
        "is_free": not state["held"],
    }
    return coordinator.poll(WorkerState(**{**defaults, **state}))


def claim(run: Run, by: Coordinator | None = None) -> Claim:
    """The run's next shard, in the hands of `by` or of a new worker."""
    for claim in poll(by or coordinator()).claims:
        if claim.shard.run_id == run.pk:
            return claim
    raise AssertionError("there was nothing to claim")


def hold(claim: Claim) -> HeldShard:
    return HeldShard(claim.shard, claim.context.run, claim.tally)


def outcomes(claim: Claim, rows: Iterable[int] | None = None, **fields: Any) -> list[Outcome]:
    """An outcome for each of what is left to do, or of these rows: one mark, passed."""
    wanted = None if rows is None else set(rows)
    return [
        outcome(claim, row.index, repeat, **fields)
        for row, repeat in claim.todo
        if wanted is None or row.index in wanted
    ]


def outcome(claim: Claim, row_index: int, repeat: int = 0, **fields: Any) -> Outcome:
    fault = fields.pop("fault", None)
    mark = Mark(None, None, error=fault) if fault else fields.pop("mark", Mark(1.0, True))
    judged = [Judged(pk, mark) for pk, _ in claim.context.criteria]
    spent = [Spent("m", 1, Usage(3, 4, 7, 0))]
    values = {"sample": None, "exchange": None, "fault": fault, "judged": judged, "spent": spent}
    return Outcome(row_index, repeat, **{**values, **fields})


def errored(code: str = "model_timeout", message: str = "No answer.") -> Fault:
    return Fault(code, message)


def let_lease_run_out(shard: Shard) -> None:
    Shard.objects.filter(pk=shard.pk).update(lease_until=database_now())
