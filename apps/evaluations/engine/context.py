"""Gather what a worker needs of a run to work on its shards; built once for each run it meets."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from apps.clients import is_built_in
from apps.evaluations.costs import PriceList
from apps.evaluations.engine.grading import Batcher, JudgingSession
from apps.evaluations.engine.meters import Meter
from apps.evaluations.engine.spending import has_limits
from apps.evaluations.models import Run
from apps.evaluations.targets import Answerer, Target, answering_target
from apps.grading.graders import read_grader
from apps.grading.graders.base import BatchGrader, Grader, JudgeGrader
from apps.inference.attached_models import Address, Models, Unworkable
from apps.inference.limiters import EndpointLimiter, FirstCalls


@dataclass
class RunContext:
    """A run as a worker holds it: how it is answered and judged, and whether it was called off.

    judges: the addresses of the models that judge, by the names that criteria have for them.
    answerer: the target, opened; there once the run is connected. is_denied: its first calls were
    all denied, so that no other is made.
    """

    run: Run
    criteria: list[tuple[UUID, Grader]]
    target: Target
    judges: Mapping[str, Address]
    models: Models
    prices: PriceList
    meter: Meter
    answerer: Answerer = field(init=False)
    first_calls: FirstCalls = field(init=False)
    is_connected: bool = False
    is_stopped: bool = False
    is_denied: bool = False

    def __post_init__(self) -> None:
        self.session = JudgingSession(self.criteria)
        self._judging: Sequence[EndpointLimiter] = ()

    @property
    def endpoints(self) -> Iterable[UUID]:
        return self.models.endpoints

    @property
    def waits(self) -> bool:
        """Return whether each item waits for somebody; else rows are graded in one go."""
        return self.target.waits or self.session.waits

    def connect(
        self,
        limiter_of: Callable[[UUID], EndpointLimiter],
        is_stopping: Callable[[], bool],
        run_batch: Callable[..., Any],
        wake: Callable[[], None],
    ) -> None:
        """Open target and judges; in the event loop, since clients belong to one."""
        self.is_connected = True

        def slots() -> int:
            # An item is at one endpoint at a time, so the most at any of them is enough.
            return max((limiter_of(pk).granted for pk in self.endpoints), default=0)

        def is_stopped() -> bool:
            return self.is_stopped or self.is_denied or is_stopping()

        self.meter.connect(slots, wake)
        self.first_calls = FirstCalls(wake)
        first = {self.run.endpoint_id: self.first_calls} if self.run.endpoint_id else {}
        self.models.open(limiter_of, self.run.pk, is_stopped, self.meter.before_call, first)
        self._judging = [limiter_of(pk) for pk in self.endpoints if pk != self.run.endpoint_id]
        attach_models(self.session, self.models, self.judges, run_batch)
        self.answerer = self.target.open(self.models)

    @property
    def wants_to_end(self) -> bool:
        """Return whether the server denied the run's first calls, as far as is known here."""
        return self.is_connected and self.first_calls.is_open

    @property
    def is_held_up(self) -> bool:
        """Return whether an answer would only wait to be judged: a judge's server refuses calls."""
        return bool(self._judging) and any(one.is_held_up for one in self._judging)

    async def close(self) -> None:
        await self.models.close()


def attach_models(
    session: JudgingSession,
    models: Models,
    judges: Mapping[str, Address],
    run_batch: Callable[..., Any],
) -> None:
    """Give a session the opened models that its judges name, and batchers for its batch graders."""
    session.judges = {name: models.judge(address) for name, address in judges.items()}
    session.batchers = {
        pk: Batcher(grader, run_batch)
        for pk, grader in session.criteria
        if isinstance(grader, BatchGrader)
    }


def open_context(run: Run) -> RunContext:
    """Read a run's criteria and the models it asks. Raises Unworkable."""
    criteria = []
    for criterion in run.evaluation.criteria.filter(version=run.criteria_version):
        try:
            grader = read_grader(criterion.kind, criterion.read_settings())
        except ValueError as error:
            raise Unworkable(f"The criterion {criterion.name!r}: {error}") from error
        criteria.append((criterion.pk, grader))
    stored = run.read_target()
    judges = stored.get("judges", {})
    target = answering_target(run)
    prices = PriceList.of(stored)
    meter = Meter(run, prices, target.calls_of_item + _judging_calls(criteria, judges))
    # A guess until the coordinator has looked: most runs have no limit, and none of their items
    # should wait for that.
    meter.is_free = meter.is_free or not has_limits(run)
    models = Models([*judges.values(), *target.addresses])
    return RunContext(run, criteria, target, judges, models, prices, meter)


def _judging_calls(criteria: Iterable[tuple[UUID, Grader]], judges: Mapping[str, Address]) -> int:
    """Count the calls that judging an item takes, unless one has to be made again."""
    asked = [judges[one.model] for _, one in criteria if isinstance(one, JudgeGrader)]
    return sum(not is_built_in(address) for address in asked)
