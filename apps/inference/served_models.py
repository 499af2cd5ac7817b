"""Find which endpoint answers to a model's name, and how to reach it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist

from apps.clients import BUILT_IN
from apps.datasets.reading import examples_of, find_version
from apps.errors import Refusal
from apps.grading.graders.base import Grader, JudgeGrader
from apps.grading.prompts import BadPrompt, PromptFailed, compile_prompt
from apps.inference.models import ModelEndpoint, ServedModel
from apps.strict_json import parse_json

BUILT_IN_PREFIX = "builtin/"
EMBEDDING = "embedding"  # stands for the account's embedding model where none is named


class UnknownModel(ObjectDoesNotExist):
    """The account reaches no model of this name. position: which of several graders names it."""

    def __init__(self, name: str, reason: str = "") -> None:
        super().__init__(
            f"The model {name!r} does not exist here: "
            + (reason or "register it with `manage.py add_endpoint` or in the admin.")
        )
        self.name = name
        self.position: int | None = None


@dataclass(frozen=True)
class FoundModel:
    """A model that was found: at an endpoint, or built in and then without one.

    address: what a run's target keeps of it; JSON values only.
    """

    name: str
    endpoint: ModelEndpoint | None
    address: dict[str, Any]


def find_model(account_id: UUID, name: str) -> FoundModel:
    """Find the chat model of that name. Raises UnknownModel."""
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
    """Find the embedding model of that name, without a name the oldest. Raises UnknownModel."""
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
    """Find the addresses that judges need, as `judges` by the name they use; {} without judges.

    Raises UnknownModel with `position`, which of the graders names the model.
    """
    judges: dict[str, Any] = {}
    for position, grader in enumerate(graders):
        if not isinstance(grader, JudgeGrader):
            continue
        try:
            find = find_model if grader.model_kind == "chat" else find_embedder
            judges[grader.model] = find(account_id, grader.model).address
        except UnknownModel as error:
            error.position = position
            raise
    return {"judges": judges} if judges else {}


def renamed_models(target: Mapping[str, Any]) -> dict[str, str]:
    """Return a run's models that have another name at their server: the name here -> that one.

    target: what a run keeps of how its models are reached, its judges' `judges` among it.
    """
    addresses = [target, *target.get("judges", {}).values()]
    names = {one["model"]: one.get("upstream") for one in addresses if one.get("model")}
    return {name: other for name, other in names.items() if other and other != name}


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
    """Return the prices that an address keeps, so that a later change rewrites no past run."""
    prices = {"prompt": served.prompt_price, "completion": served.completion_price}
    if all(price is None for price in prices.values()):
        return {}
    return {name: _shown_price(price) for name, price in prices.items()}


def with_present_prices(account_id: UUID, target: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's target with the prices of now; of models that are gone the prices stay."""
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
    """Return the system prompt for requests that are no judge's, where a template has no values."""
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
    except (ObjectDoesNotExist, Refusal) as error:
        reason = error.messages[0] if isinstance(error, Refusal) else str(error)
        raise UnknownModel(name, reason) from error
    return {"model": name, "builtin": kind, "version": str(version.pk)}


def _shown_price(price: Decimal | None) -> str | None:
    return None if price is None else f"{price:.6f}"
