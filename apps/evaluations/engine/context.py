"""What a worker needs of a run to work on its shards, built once for each run it meets."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from apps.datasets.models import DatasetVersion
from apps.datasets.services import examples_of
from apps.evaluations.clients import BUILT_IN, ChatClient, Client, Majority
from apps.evaluations.engine.slots import Lane, Turn
from apps.evaluations.engine.targets import ChatTarget, RecordedTarget, Target
from apps.evaluations.graders import build_grader
from apps.evaluations.graders.base import Grader
from apps.evaluations.models import Run

LESSONS = 50_000  # examples at most that a built-in model learns from


class Unworkable(Exception):
    """The run cannot be worked on at all; the message says why."""


@dataclass
class RunContext:
    """A run as a worker holds it: its graders, its target, and whether it was called off."""

    run: Run
    criteria: list[tuple[UUID, Grader]]
    model: dict[str, Any] | None  # how the target is reached, None for a recorded one
    built_in: Client | None = None
    target: Target = field(default_factory=RecordedTarget)
    is_connected: bool = False
    is_stopped: bool = False

    @property
    def endpoint_id(self) -> UUID | None:
        return self.run.endpoint_id

    @property
    def asks(self) -> bool:
        return self.model is not None

    def connect(self, lane: Lane | None, is_stopping: Callable[[], bool]) -> None:
        """Open the target; in the event loop, since a client belongs to one."""
        self.is_connected = True
        if self.model is None:
            return
        client = self.built_in
        endpoint = self.run.endpoint
        if client is None:
            assert endpoint is not None
            assert lane is not None
            turn: Hashable = self.run.pk
            client = ChatClient(
                endpoint.base_url,
                endpoint.api_key,
                Turn(lane, turn),
                allow_private=endpoint.allow_private,
                stopped=lambda: self.is_stopped or is_stopping(),
            )
        self.target = ChatTarget(
            client=client,
            model=self.model["model"],
            upstream=self.model.get("upstream", self.model["model"]),
            messages=self.model.get("messages"),
            reference=self.model.get("reference"),
            params=self.model.get("params") or {},
        )

    async def close(self) -> None:
        if isinstance(self.target, ChatTarget):
            await self.target.client.close()


def open_context(run: Run) -> RunContext:
    """Read a run's criteria and target. Raises Unworkable."""
    criteria = []
    for criterion in run.evaluation.criteria.filter(version=run.criteria_version):
        try:
            grader = build_grader(criterion.kind, criterion.read_settings())
        except ValueError as error:
            raise Unworkable(f"The criterion {criterion.name!r}: {error}") from error
        criteria.append((criterion.pk, grader))
    target = run.read_target()
    if target["kind"] == RecordedTarget.kind:
        return RunContext(run, criteria, None)
    built_in = _built_in(target) if "builtin" in target else None
    if built_in is None and (run.endpoint is None or run.endpoint.disabled_at is not None):
        raise Unworkable(f"The endpoint of the model {run.model!r} is gone or disabled.")
    return RunContext(run, criteria, target, built_in)


def _built_in(target: dict[str, Any]) -> Client:
    kind = BUILT_IN[target["builtin"]]
    if not issubclass(kind, Majority):
        return kind()
    version = DatasetVersion.objects.select_related("dataset").get(pk=target["version"])
    examples = _first(examples_of(version), LESSONS)
    return kind(list(examples))


def _first(examples: Iterator[tuple[str, str]], limit: int) -> Iterator[tuple[str, str]]:
    for _, example in zip(range(limit), examples, strict=False):
        yield example
