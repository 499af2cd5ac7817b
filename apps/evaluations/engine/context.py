"""What a worker needs of a run to work on its shards, built once for each run it meets."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID

from apps.datasets.models import DatasetVersion
from apps.datasets.services import examples_of
from apps.evaluations.clients import BUILT_IN, ChatClient, Client, Majority
from apps.evaluations.engine.grading import Batcher, Bench, Judge
from apps.evaluations.engine.slots import Lane, Turn
from apps.evaluations.engine.targets import ChatTarget, RecordedTarget, Target
from apps.evaluations.graders import build_grader
from apps.evaluations.graders.base import BatchGrader, Grader
from apps.evaluations.models import ModelEndpoint, Run

LESSONS = 50_000  # examples at most that a built-in model learns from


class Unworkable(Exception):
    """The run cannot be worked on at all; the message says why."""


@dataclass
class RunContext:
    """A run as a worker holds it: how it is answered and judged, and whether it was called off.

    target_data, judge_data: addresses of models, as services.endpoints.find_model gives them.
    """

    run: Run
    criteria: list[tuple[UUID, Grader]]
    target_data: dict[str, Any]
    judge_data: Mapping[str, dict[str, Any]]
    endpoints: Mapping[UUID, ModelEndpoint]
    built_in: Mapping[str, Client]
    target: Target = field(default_factory=RecordedTarget)
    is_connected: bool = False
    is_stopped: bool = False

    def __post_init__(self) -> None:
        self.bench = Bench(self.criteria)
        self._clients: dict[UUID, ChatClient] = {}

    @property
    def asks(self) -> bool:
        """Is each item a wait of its own, or can rows be graded in one go?"""
        return self.target_data["kind"] != RecordedTarget.kind or self.bench.waits

    def connect(
        self,
        lane_of: Callable[[UUID], Lane],
        is_stopping: Callable[[], bool],
        run_batch: Callable[..., Any],
    ) -> None:
        """Open target and judges; in the event loop, since clients belong to one."""
        self.is_connected = True
        for pk, endpoint in self.endpoints.items():
            self._clients[pk] = ChatClient(
                endpoint.base_url,
                endpoint.api_key,
                Turn(lane_of(pk), self.run.pk),
                allow_private=endpoint.allow_private,
                stopped=lambda: self.is_stopped or is_stopping(),
            )
        self.bench.judges = {
            name: Judge(self._client(address), upstream_of(address))
            for name, address in self.judge_data.items()
        }
        self.bench.batchers = {
            pk: Batcher(grader, run_batch)
            for pk, grader in self.criteria
            if isinstance(grader, BatchGrader)
        }
        data = self.target_data
        if data["kind"] == ChatTarget.kind:
            self.target = ChatTarget(
                client=self._client(data),
                model=data["model"],
                upstream=upstream_of(data),
                messages=data.get("messages"),
                reference=data.get("reference"),
                params=data.get("params") or {},
            )

    def _client(self, address: Mapping[str, Any]) -> Client:
        if "builtin" in address:
            return self.built_in[address["model"]]
        return self._clients[UUID(address["endpoint"])]

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()


def upstream_of(address: Mapping[str, Any]) -> str:
    return address.get("upstream") or address["model"]


def open_context(run: Run) -> RunContext:
    """Read a run's criteria and the models it asks. Raises Unworkable."""
    criteria = []
    for criterion in run.evaluation.criteria.filter(version=run.criteria_version):
        try:
            grader = build_grader(criterion.kind, criterion.read_settings())
        except ValueError as error:
            raise Unworkable(f"The criterion {criterion.name!r}: {error}") from error
        criteria.append((criterion.pk, grader))
    target = run.read_target()
    judges = target.get("judges", {})
    addresses = [*judges.values()]
    if target["kind"] != RecordedTarget.kind:
        addresses.append(target)
    built_in = {one["model"]: _built_in(one) for one in addresses if "builtin" in one}
    endpoints: dict[UUID, ModelEndpoint] = {}
    for address in addresses:
        if "builtin" not in address:
            pk = UUID(address["endpoint"])
            endpoints[pk] = endpoints.get(pk) or _endpoint(pk, address["model"])
    return RunContext(run, criteria, target, judges, endpoints, built_in)


def _endpoint(pk: UUID, model: str) -> ModelEndpoint:
    endpoint = ModelEndpoint.objects.filter(pk=pk, disabled_at=None).first()
    if endpoint is None:
        raise Unworkable(f"The endpoint of the model {model!r} is gone or disabled.")
    return endpoint


def _built_in(address: Mapping[str, Any]) -> Client:
    kind = BUILT_IN[address["builtin"]]
    if not issubclass(kind, Majority):
        return kind()
    version = DatasetVersion.objects.select_related("dataset").get(pk=address["version"])
    examples: Iterator[tuple[str, str]] = islice(examples_of(version), LESSONS)
    return kind(list(examples))
