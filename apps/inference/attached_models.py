"""Read the addresses of the models that are asked, and open clients for them in an event loop."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID

from django.conf import settings

from apps.clients import (
    BUILT_IN,
    AdaptingClient,
    Client,
    Lessons,
    Majority,
    Preset,
    RetryPolicy,
    Unlimited,
    is_built_in,
    no_budget,
)
from apps.datasets.models import DatasetVersion
from apps.datasets.reading import examples_of
from apps.errors import Refusal
from apps.inference.learned_quirks import Learned, lessons_of
from apps.inference.limiters import EndpointLimiter, FirstCalls, RunLimiter
from apps.inference.models import ModelEndpoint
from apps.inference.server_settings import connect

LESSONS = 50_000  # examples at most that a built-in model learns from
NO_FIRST_CALLS: Mapping[UUID, FirstCalls] = {}
# How to reach a model, as served_models.find_model says; JSON values only.
Address = Mapping[str, Any]


class Unworkable(Exception):
    """A model cannot be reached at all; the message says why."""


@dataclass(frozen=True)
class Judge:
    """A model that judges: its client, its names here and at its server, and its preset.

    lessons: what is known of its server, which a built-in model has not.
    """

    client: Client
    name: str
    upstream: str
    preset: Preset = field(default_factory=Preset)
    lessons: Lessons = field(default_factory=Lessons)


class Models:
    """The models that are asked: read from the tables first, opened in the event loop later.

    Raises Unworkable for an endpoint that is gone or disabled.
    """

    def __init__(self, addresses: Iterable[Address]) -> None:
        self.endpoints: dict[UUID, ModelEndpoint] = {}
        self._built_in: dict[str, Client] = {}
        self._clients: dict[UUID, AdaptingClient] = {}
        for address in addresses:
            if is_built_in(address):
                self._built_in[address["model"]] = _built_in(address)
            elif (pk := UUID(address["endpoint"])) not in self.endpoints:
                self.endpoints[pk] = _endpoint(pk, address["model"])
        self.learned: list[Learned] = []
        self._lessons = lessons_of(self.endpoints, self._note)

    def _note(self, learned: Learned) -> None:
        self.learned.append(learned)

    def take_learned(self) -> list[Learned]:
        """Return what was learned of servers since this was asked last; for `remember`."""
        taken, self.learned = self.learned, []
        return taken

    def open(
        self,
        limiter_of: Callable[[UUID], EndpointLimiter],
        run: object,
        stopped: Callable[[], bool],
        before_call: Callable[[int], Awaitable[None]] = no_budget,
        first_calls: Mapping[UUID, FirstCalls] = NO_FIRST_CALLS,
    ) -> None:
        """Open the clients. first_calls: by the endpoint, where a run may end by them."""
        policy = RetryPolicy(call_seconds=settings.ENGINE_CALL_SECONDS)
        for pk, endpoint in self.endpoints.items():
            self._clients[pk] = connect(
                endpoint,
                RunLimiter(limiter_of(pk), run, first_calls.get(pk)),
                policy,
                self._lessons[pk],
                stopped=stopped,
                before_call=before_call,
            )

    def judge(self, address: Address) -> Judge:
        name = address["model"]
        upstream = address.get("upstream") or name
        client, preset = self.client(address), Preset.of(address)
        if is_built_in(address):
            return Judge(client, name, upstream, preset)
        return Judge(client, name, upstream, preset, self._lessons[UUID(address["endpoint"])])

    def client(self, address: Address) -> Client:
        if is_built_in(address):
            return self._built_in[address["model"]]
        return self._clients[UUID(address["endpoint"])]

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()


def _endpoint(pk: UUID, model: str) -> ModelEndpoint:
    endpoint = ModelEndpoint.objects.filter(pk=pk, disabled_at=None).first()
    if endpoint is None:
        raise Unworkable(f"The endpoint of the model {model!r} is gone or disabled.")
    try:
        connect(endpoint, Unlimited(), RetryPolicy(), Lessons())
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
    except (Refusal, ValueError) as error:
        reason = error.messages[0] if isinstance(error, Refusal) else str(error)
        raise Unworkable(f"{address['model']} has nothing to learn from: {reason}") from error
