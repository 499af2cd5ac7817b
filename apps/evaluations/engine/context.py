"""What a worker needs of a run to work on its shards, built once for each run it meets."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from apps.clients import (
    Preset,
)
from apps.evaluations.costs import PriceList
from apps.evaluations.engine.grading import Batcher, JudgingSession
from apps.evaluations.engine.meters import Meter
from apps.evaluations.engine.spending import has_limits
from apps.evaluations.engine.targets import ChatTarget, RecordedTarget, Target
from apps.evaluations.models import Run
from apps.grading.graders import read_grader
from apps.grading.graders.base import BatchGrader, Grader, JudgeGrader
from apps.inference.attached_models import Address, Models, Unworkable
from apps.inference.limiters import EndpointLimiter


@dataclass
class RunContext:
    """A run as a worker holds it: how it is answered and judged, and whether it was called off.

    addresses: the run's target as it is stored, with `judges` beside it.
    """

    run: Run
    criteria: list[tuple[UUID, Grader]]
    addresses: dict[str, Any]
    models: Models
    prices: PriceList
    meter: Meter
    target: Target = field(default_factory=RecordedTarget)
    is_connected: bool = False
    is_stopped: bool = False

    def __post_init__(self) -> None:
        self.session = JudgingSession(self.criteria)

    @property
    def endpoints(self) -> Iterable[UUID]:
        return self.models.endpoints

    @property
    def waits(self) -> bool:
        """Return whether each item waits for somebody; else rows are graded in one go."""
        return self.addresses["kind"] != RecordedTarget.kind or self.session.waits

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
            return max((limiter_of(pk).granted for pk in self.endpoints), default=0)

        def is_stopped() -> bool:
            return self.is_stopped or is_stopping()

        self.meter.connect(slots, wake)
        self.models.open(limiter_of, self.run.pk, is_stopped, self.meter.before_call)
        attach_models(self.session, self.models, self.addresses, run_batch)
        data = self.addresses
        if data["kind"] == ChatTarget.kind:
            self.target = ChatTarget(
                client=self.models.client(data),
                model=data["model"],
                upstream=data.get("upstream") or data["model"],
                messages=data.get("messages"),
                reference=data.get("reference"),
                takes_text=data.get("takes_text", False),
                params=data.get("params") or {},
                preset=Preset.of(data),
            )

    async def close(self) -> None:
        await self.models.close()


def attach_models(
    session: JudgingSession,
    models: Models,
    addresses: Mapping[str, Any],
    run_batch: Callable[..., Any],
) -> None:
    """Give a session the opened models that its judges name, and batchers for its batch graders."""
    session.judges = {name: models.judge(one) for name, one in addresses.get("judges", {}).items()}
    session.batchers = {
        pk: Batcher(grader, run_batch)
        for pk, grader in session.criteria
        if isinstance(grader, BatchGrader)
    }


def judging_addresses(addresses: Mapping[str, Any]) -> list[Address]:
    return [*addresses.get("judges", {}).values()]


def open_context(run: Run) -> RunContext:
    """Read a run's criteria and the models it asks. Raises Unworkable."""
    criteria = []
    for criterion in run.evaluation.criteria.filter(version=run.criteria_version):
        try:
            grader = read_grader(criterion.kind, criterion.read_settings())
        except ValueError as error:
            raise Unworkable(f"The criterion {criterion.name!r}: {error}") from error
        criteria.append((criterion.pk, grader))
    target = run.read_target()
    if run.answers_of_id is not None:  # each claim brings them along
        target["kind"] = RecordedTarget.kind
    asked = judging_addresses(target)
    if target["kind"] != RecordedTarget.kind:
        asked.append(target)
    prices = PriceList.of(target)
    meter = Meter(run, prices, _calls_of_item(criteria, target))
    # Until the coordinator has looked; most runs have no limit, and none of their items waits.
    meter.is_free = meter.is_free or not has_limits(run)
    return RunContext(run, criteria, target, Models(asked), prices, meter)


def _calls_of_item(criteria: Iterable[tuple[UUID, Grader]], target: Mapping[str, Any]) -> int:
    """How often servers are asked for an item, unless one has to be asked again."""
    judges = target.get("judges", {})
    asked = [judges[one.model] for _, one in criteria if isinstance(one, JudgeGrader)]
    if target["kind"] != RecordedTarget.kind:
        asked.append(target)
    return sum("builtin" not in address for address in asked)
