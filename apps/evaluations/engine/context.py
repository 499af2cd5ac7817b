"""What a worker needs of a run to work on its shards, built once for each run it meets."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID

from django.conf import settings

from apps.clients import (
    BUILT_IN,
    ChatClient,
    Client,
    Majority,
    Patience,
    Preset,
    Unlimited,
    unpaid,
)
from apps.datasets.models import DatasetVersion
from apps.datasets.services import examples_of
from apps.errors import Invalid
from apps.evaluations.engine.costs import PriceList
from apps.evaluations.engine.grading import Batcher, Bench, Judge
from apps.evaluations.engine.meters import Meter
from apps.evaluations.engine.slots import Lane, Turn
from apps.evaluations.engine.spending import has_limits
from apps.evaluations.engine.targets import ChatTarget, RecordedTarget, Target
from apps.evaluations.models import ModelEndpoint, Run
from apps.grading.graders import read_grader
from apps.grading.graders.base import BatchGrader, Grader, JudgeGrader

LESSONS = 50_000  # examples at most that a built-in model learns from

# How to reach a model, as services.endpoints.find_model says; JSON values only.
Address = Mapping[str, Any]


class Unworkable(Exception):
    """The run cannot be worked on at all; the message says why."""


class Models:
    """The models that somebody asks: read from the tables first, opened in the event loop later.

    Raises Unworkable for an endpoint that is gone or disabled.
    """

    def __init__(self, addresses: Iterable[Address]) -> None:
        self.endpoints: dict[UUID, ModelEndpoint] = {}
        self._built_in: dict[str, Client] = {}
        self._clients: dict[UUID, ChatClient] = {}
        for address in addresses:
            if "builtin" in address:
                self._built_in[address["model"]] = _built_in(address)
            elif (pk := UUID(address["endpoint"])) not in self.endpoints:
                self.endpoints[pk] = _endpoint(pk, address["model"])

    def open(
        self,
        lane_of: Callable[[UUID], Lane],
        turn: object,
        stopped: Callable[[], bool],
        pay: Callable[[int], Awaitable[None]] = unpaid,
    ) -> None:
        patience = Patience(call_seconds=settings.ENGINE_CALL_SECONDS)
        for pk, endpoint in self.endpoints.items():
            self._clients[pk] = ChatClient(
                endpoint.base_url,
                endpoint.api_key,
                Turn(lane_of(pk), turn),
                allow_private=endpoint.allow_private,
                patience=patience,
                stopped=stopped,
                pay=pay,
            )

    def judge(self, address: Address) -> Judge:
        name = address["model"]
        upstream = address.get("upstream") or name
        return Judge(self.client(address), name, upstream, Preset.of(address))

    def client(self, address: Address) -> Client:
        if "builtin" in address:
            return self._built_in[address["model"]]
        return self._clients[UUID(address["endpoint"])]

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()


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
        self.bench = Bench(self.criteria)

    @property
    def endpoints(self) -> Iterable[UUID]:
        return self.models.endpoints

    @property
    def asks(self) -> bool:
        """Is each item a wait of its own, or can rows be graded in one go?"""
        return self.addresses["kind"] != RecordedTarget.kind or self.bench.waits

    def connect(
        self,
        lane_of: Callable[[UUID], Lane],
        is_stopping: Callable[[], bool],
        run_batch: Callable[..., Any],
        wake: Callable[[], None],
    ) -> None:
        """Open target and judges; in the event loop, since clients belong to one."""
        self.is_connected = True

        def places() -> int:
            return max((lane_of(pk).granted for pk in self.endpoints), default=0)

        def is_stopped() -> bool:
            return self.is_stopped or is_stopping()

        self.meter.connect(places, wake)
        self.models.open(lane_of, self.run.pk, is_stopped, self.meter.pay)
        equip(self.bench, self.models, self.addresses, run_batch)
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


def equip(
    bench: Bench, models: Models, addresses: Mapping[str, Any], run_batch: Callable[..., Any]
) -> None:
    """Give a bench the opened models that its judges name, and batchers for its batch graders."""
    bench.judges = {name: models.judge(one) for name, one in addresses.get("judges", {}).items()}
    bench.batchers = {
        pk: Batcher(grader, run_batch)
        for pk, grader in bench.criteria
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
    # Until the desk has looked; most runs have no limit, and none of their items waits for it.
    meter.is_free = meter.is_free or not has_limits(run)
    return RunContext(run, criteria, target, Models(asked), prices, meter)


def _calls_of_item(criteria: Iterable[tuple[UUID, Grader]], target: Mapping[str, Any]) -> int:
    """How often servers are asked for an item, unless one has to be asked again."""
    judges = target.get("judges", {})
    asked = [judges[one.model] for _, one in criteria if isinstance(one, JudgeGrader)]
    if target["kind"] != RecordedTarget.kind:
        asked.append(target)
    return sum("builtin" not in address for address in asked)


def _endpoint(pk: UUID, model: str) -> ModelEndpoint:
    endpoint = ModelEndpoint.objects.filter(pk=pk, disabled_at=None).first()
    if endpoint is None:
        raise Unworkable(f"The endpoint of the model {model!r} is gone or disabled.")
    try:
        ChatClient(endpoint.base_url, endpoint.api_key, Unlimited())
    except ValueError as error:
        raise Unworkable(f"The endpoint of the model {model!r} cannot be used: {error}") from error
    return endpoint


def _built_in(address: Address) -> Client:
    kind = BUILT_IN[address["builtin"]]
    if not issubclass(kind, Majority):
        return kind()
    version = DatasetVersion.objects.select_related("dataset").filter(pk=address["version"]).first()
    if version is None:
        raise Unworkable(f"The dataset that {address['model']} learned from is gone.")
    try:
        examples: Iterator[tuple[str, str]] = islice(examples_of(version), LESSONS)
        return kind(list(examples))
    except (Invalid, ValueError) as error:
        reason = error.messages[0] if isinstance(error, Invalid) else str(error)
        raise Unworkable(f"{address['model']} has nothing to learn from: {reason}") from error
