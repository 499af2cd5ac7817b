"""The messages between a worker's loop and its coordinator: the state told, the work assigned."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from apps.evaluations.engine.context import RunContext
from apps.evaluations.engine.spending import Allowance, BudgetRequest
from apps.evaluations.models import Run, Shard
from apps.evaluations.tally import Tally
from apps.evaluations.targets import Row
from apps.evaluations.targets.recorded import KeptAnswers
from apps.inference.pacing import Permission, Report


@dataclass(frozen=True)
class Claim:
    """A shard this worker holds, with what is left to do in it: rows and the repeats of each.

    isolated: its items must be worked one by one. answers: those that another run got for it,
    where that one's are graded.
    """

    shard: Shard
    context: RunContext
    todo: list[tuple[Row, int]]
    tally: Tally
    isolated: bool = False
    answers: KeptAnswers | None = None


@dataclass(frozen=True)
class WorkerState:
    """The loop's state, as far as the coordinator must know it.

    capacity: how many more items each held run may have waiting here, FIRST_CAPACITY for other
    runs. spare: how many more rows may be in memory for runs that ask no endpoint. slots: per
    endpoint how many calls are wanted, and how many may be in flight before the next poll. held:
    the shards at work here. budget_requests: by the id of the context. may_claim: false while
    draining. may_plan: nobody plans. is_free: nothing is at work here, nor planned. reports: of
    endpoints that refuse calls, or where calls need permits. denied: the runs whose first calls
    here were all denied. was_rung: a bell was heard since the last poll.
    """

    capacity: dict[UUID, int]
    spare: int
    slots: dict[UUID, tuple[int, int]]
    held: Collection[UUID]
    budget_requests: dict[int, BudgetRequest]
    may_claim: bool
    may_plan: bool
    is_free: bool
    reports: Mapping[UUID, Report] = field(default_factory=dict)
    denied: Collection[UUID] = ()
    was_rung: bool = False


@dataclass
class Assignments:
    """The coordinator's answer to a poll: what the loop must do next.

    grants: how many calls may be in flight at each endpoint of which that has changed.
    permissions: how many may begin where the server refuses some. left: endpoints whose slots were
    given back. denied: of runs whose first calls here were denied, whether no other was taken.
    isolated: what was claimed has been in vain so often that nothing else may be at work beside
    it, lest it take others with it, or the other way round.
    """

    claims: list[Claim] = field(default_factory=list)
    grants: dict[UUID, int] = field(default_factory=dict)
    permissions: dict[UUID, Permission] = field(default_factory=dict)
    denied: dict[UUID, bool] = field(default_factory=dict)
    allowances: dict[int, Allowance] = field(default_factory=dict)
    left: set[UUID] = field(default_factory=set)
    ended_runs: set[UUID] = field(default_factory=set)
    plan: Run | None = None
    isolated: bool = False
    has_more: bool = False  # there is work that this worker has no room for
    is_waiting: bool = False  # for slots that other workers hold
