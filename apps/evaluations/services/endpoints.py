"""Register model servers, and find which one answers to a model's name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Account, Actor
from apps.accounts.roles import Action
from apps.accounts.services import record
from apps.clients import BUILT_IN, UrlRefused, check_url
from apps.datasets.services import examples_of, find_version
from apps.errors import Invalid
from apps.evaluations.models import ModelEndpoint, ServedModel
from apps.grading.graders.base import Grader, JudgeGrader
from apps.grading.prompts import BadPrompt, PromptFailed, compile_prompt
from apps.strict_json import parse_json

BUILT_IN_PREFIX = "builtin/"
PRICE_LIMIT = 1_000_000
EMBEDDING = "embedding"  # stands for the account's embedding model where none is named


class UnknownModel(ObjectDoesNotExist):
    """No endpoint of the account serves a model of this name."""

    def __init__(self, name: str, reason: str = "") -> None:
        super().__init__(
            f"The model {name!r} does not exist here: "
            + (reason or "register it with `manage.py add_endpoint` or in the admin.")
        )
        self.name = name
        self.place: int | None = None


@dataclass(frozen=True)
class FoundModel:
    """How to reach a model: through an endpoint, or built in and then without one.

    address: what a run's target keeps of it; JSON values only.
    """

    name: str
    endpoint: ModelEndpoint | None
    address: dict[str, Any]


def find_model(account_id: UUID, name: str) -> FoundModel:
    """The chat model of that name. Raises UnknownModel."""
    if name.startswith(BUILT_IN_PREFIX):
        return FoundModel(name, None, _built_in(account_id, name))
    served = (
        ServedModel.objects.filter(
            account_id=account_id,
            name=name,
            kind=ServedModel.Kind.CHAT,
            endpoint__disabled_at=None,
        )
        .select_related("endpoint")
        .first()
    )
    if served is None:
        raise UnknownModel(name)
    return _served(served)


def find_embedder(account_id: UUID, name: str = "") -> FoundModel:
    """The embedding model of that name, without one the account's oldest. Raises UnknownModel."""
    embedders = ServedModel.objects.filter(
        account_id=account_id, kind=ServedModel.Kind.EMBEDDING, endpoint__disabled_at=None
    )
    if name:
        embedders = embedders.filter(name=name)
    served = embedders.select_related("endpoint").order_by("created_at", "id").first()
    if served is None:
        raise UnknownModel(
            name or EMBEDDING,
            "register an embedding model with `manage.py add_endpoint --embedding-model`.",
        )
    return _served(served)


def find_judges(account_id: UUID, graders: Iterable[Grader]) -> dict[str, Any]:
    """The addresses that judges need, as `judges` by the name they use; nothing without judges.

    Raises UnknownModel with `place`, which of the graders names the model.
    """
    judges: dict[str, Any] = {}
    for place, grader in enumerate(graders):
        if not isinstance(grader, JudgeGrader):
            continue
        try:
            find = find_model if grader.asks == "chat" else find_embedder
            judges[grader.model] = find(account_id, grader.model).address
        except UnknownModel as error:
            error.place = place
            raise
    return {"judges": judges} if judges else {}


def _served(served: ServedModel) -> FoundModel:
    address: dict[str, Any] = {
        "model": served.name,
        "upstream": served.upstream_name or served.name,
        "endpoint": str(served.endpoint_id),
    }
    if served.system_prompt or served.params != "{}":
        address["preset"] = {
            "system_prompt": _prompt_of(served),
            "params": parse_json(served.params),
        }
    if prices := _prices(served):
        address["prices"] = prices
    return FoundModel(served.name, served.endpoint, address)


def _prices(served: ServedModel) -> dict[str, str | None]:
    """What an address keeps of the prices, so that a later change rewrites no past run."""
    prices = {"prompt": served.prompt_price, "completion": served.completion_price}
    if all(price is None for price in prices.values()):
        return {}
    return {name: _shown_price(price) for name, price in prices.items()}


def with_present_prices(account_id: UUID, target: Mapping[str, Any]) -> dict[str, Any]:
    """A run's target for a new run that begins now; of models that are gone the prices stay."""
    judges = target.get("judges", {})
    names = {one["model"] for one in (target, *judges.values()) if one.get("model")}
    if not names:
        return {**target}
    served = ServedModel.objects.filter(account=account_id, name__in=names)
    prices = {model.name: _prices(model) for model in served}

    def priced(address: Mapping[str, Any]) -> dict[str, Any]:
        if address.get("model") not in prices:
            return {**address}
        unpriced = {key: value for key, value in address.items() if key != "prices"}
        found = prices[address["model"]]
        return {**unpriced, "prices": found} if found else unpriced

    again = priced(target)
    if judges:
        again["judges"] = {name: priced(one) for name, one in judges.items()}
    return again


def _prompt_of(served: ServedModel) -> str:
    """What goes in front of a request that is no judge's: there a template has no values."""
    if not served.prompt_is_template:
        return served.system_prompt
    try:
        return compile_prompt(served.system_prompt).fill({})
    except (BadPrompt, PromptFailed):
        return served.system_prompt


def _built_in(account_id: UUID, name: str) -> dict[str, Any]:
    kind, _, dataset = name.removeprefix(BUILT_IN_PREFIX).partition(":")
    client = BUILT_IN.get(kind)
    if client is None:
        raise UnknownModel(name, f"built in are {', '.join(sorted(BUILT_IN))}.")
    if not client.learns:
        if dataset:
            raise UnknownModel(name, f"{BUILT_IN_PREFIX}{kind} takes no dataset.")
        return {"model": name, "builtin": kind}
    if not dataset:
        raise UnknownModel(name, f"write {BUILT_IN_PREFIX}{kind}:DATASET, a dataset to learn from.")
    try:
        version = find_version(account_id, dataset)
        next(iter(examples_of(version)), None)
    except (ObjectDoesNotExist, Invalid) as error:
        reason = error.messages[0] if isinstance(error, Invalid) else str(error)
        raise UnknownModel(name, reason) from error
    return {"model": name, "builtin": kind, "version": str(version.pk)}


@transaction.atomic
def add_endpoint(
    actor: Actor,
    *,
    base_url: str,
    models: Sequence[str] = (),
    api_key: str | None = None,
    concurrency: int | None = None,
    allow_private: bool | None = None,
    embedding_models: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
    enables: bool = True,
) -> ModelEndpoint:
    """Register a server, or change what is given of the one with this URL.

    models: names that it serves. aliases: a name callers use -> the server's own name. enables:
    also one that was disabled.
    Raises Invalid, also for a name that another endpoint of the account serves.
    """
    account = actor.require(Action.MANAGE)
    base_url = base_url.strip().rstrip("/")
    try:
        check_url(base_url)
    except UrlRefused as error:
        raise Invalid(str(error), path="base_url") from error
    if concurrency is not None and not 1 <= concurrency <= 10_000:
        raise Invalid(f"concurrency must be 1 to 10000, not {concurrency}.", path="concurrency")
    endpoint, is_new = ModelEndpoint.objects.select_for_update().get_or_create(
        account=account, base_url=base_url
    )
    given = {"api_key": api_key, "concurrency": concurrency, "allow_private": allow_private}
    for field, value in given.items():
        if value is not None:
            setattr(endpoint, field, value)
    if enables:
        endpoint.disabled_at = None
    endpoint.save()
    chat, embedding = ServedModel.Kind.CHAT, ServedModel.Kind.EMBEDDING
    for name in models:
        _serve(account, endpoint, name, "", chat)
    for name in embedding_models:
        _serve(account, endpoint, name, "", embedding)
    for name, upstream in (aliases or {}).items():
        _serve(account, endpoint, name, upstream, chat)
    record(
        actor,
        "endpoint.add" if is_new else "endpoint.change",
        endpoint,
        after={"base_url": base_url, "models": [*models], "concurrency": endpoint.concurrency},
    )
    return endpoint


def _serve(account: Account, endpoint: ModelEndpoint, name: str, upstream: str, kind: str) -> None:
    if not name or len(name) > 300 or name.startswith(BUILT_IN_PREFIX):
        raise Invalid(
            f"A model's name has 1 to 300 characters and does not begin with {BUILT_IN_PREFIX}: "
            f"{name[:60]!r} does not fit.",
            path="models",
        )
    other = (
        ServedModel.objects.filter(account=account, name=name).exclude(endpoint=endpoint).first()
    )
    if other is not None:
        raise Invalid(
            f"The model {name!r} is served by {other.endpoint.base_url} already.", path="models"
        )
    ServedModel.objects.update_or_create(
        account=account,
        name=name,
        # What was declared of the name, a prompt perhaps, stays; that it was does not.
        defaults={
            "endpoint": endpoint,
            "upstream_name": upstream,
            "kind": kind,
            "declared_from": "",
        },
    )


@transaction.atomic
def set_endpoint_disabled(actor: Actor, endpoint: ModelEndpoint, *, is_disabled: bool) -> None:
    """Reach none of its models any more, or again; runs that need one meanwhile fail."""
    actor.require(Action.MANAGE, endpoint.account)
    changed = ModelEndpoint.objects.filter(pk=endpoint.pk, disabled_at__isnull=is_disabled)
    if changed.update(disabled_at=timezone.now() if is_disabled else None):
        record(actor, "endpoint.disable" if is_disabled else "endpoint.enable", endpoint)
    endpoint.refresh_from_db(fields=["disabled_at"])


@transaction.atomic
def remove_model(actor: Actor, model: ServedModel) -> None:
    """Forget a model's name; runs that have begun go on, for they know how to reach it."""
    actor.require(Action.MANAGE, model.account)
    before = {"name": model.name, "base_url": model.endpoint.base_url}
    record(actor, "model.remove", model, before=before)
    model.delete()


@transaction.atomic
def set_prices(
    actor: Actor, model: ServedModel, *, prompt: Decimal | None, completion: Decimal | None
) -> None:
    """Set what a million tokens cost, None where that is not known. Raises Invalid."""
    actor.require(Action.MANAGE, model.account)
    prices = {"prompt_price": prompt, "completion_price": completion}
    for path, price in prices.items():
        if price is not None and not (price.is_finite() and 0 <= price < PRICE_LIMIT):
            raise Invalid(f"A price is 0 or more and less than {PRICE_LIMIT:,}.", path=path)
    before = {path: _shown_price(getattr(model, path)) for path in prices}
    after = {path: _shown_price(price) for path, price in prices.items()}
    if before == after:
        return
    for path, price in prices.items():
        setattr(model, path, price)
    model.save(update_fields=[*prices])
    record(actor, "model.price", model, before=before, after=after)


def _shown_price(price: Decimal | None) -> str | None:
    return None if price is None else f"{price:.6f}"
