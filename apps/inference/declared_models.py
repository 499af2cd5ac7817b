"""Declare names for models of servers, each with a system prompt and default parameters."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from django.db import transaction

from apps.accounts.models import Account, Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.errors import Unfit
from apps.grading.graders import BUILT_IN_SCORERS
from apps.inference.models import ModelEndpoint, ServedModel
from apps.inference.served_models import BUILT_IN_PREFIX
from apps.strict_json import dump_json

T = TypeVar("T")


@dataclass(frozen=True)
class DeclaredModel:
    """A name and the model that it stands for.

    source: what that model is called where it is served. params: request fields by default.
    optional: leave it out where it cannot be declared.
    """

    name: str
    source: str
    is_embedding: bool = False
    system_prompt: str = ""
    prompt_is_template: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    optional: bool = False

    @property
    def kind(self) -> str:
        return ServedModel.Kind.EMBEDDING if self.is_embedding else ServedModel.Kind.CHAT


@dataclass(frozen=True)
class PutModel:
    """A declared model as it was stored. was_registered: it had been there undeclared."""

    row: ServedModel
    is_new: bool
    was_registered: bool


@transaction.atomic
def declare_models(
    actor: Actor, models: Sequence[DeclaredModel]
) -> tuple[list[PutModel], list[str]]:
    """Store each model under its name, in place of what had that name, all or none.

    It is reached through the endpoint where its source is registered, or else through the
    account's oldest. Returns what was stored, and why optional ones were not. Raises Unfit for a
    name that cannot be a model's, and where no endpoint is.
    """
    account = actor.require(Action.MANAGE)
    # Two declarations of a new name must not both make it.
    Account.objects.select_for_update().get(pk=account.pk)
    names = {model.name for model in models} | {model.source for model in models}
    held = {
        row.name: row
        for row in ServedModel.objects.filter(account=account, name__in=names).select_related(
            "endpoint"
        )
    }
    default = (
        ModelEndpoint.objects.filter(account=account, disabled_at=None)
        .order_by("created_at", "id")
        .first()
    )
    refused: list[str] = []

    def kept(model: DeclaredModel, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except Unfit as error:
            if not model.optional:
                raise
            refused.append(error.messages[0])
            return None

    # Before the first is stored: what one declares is no other's source.
    reached = [
        (model, kept(model, partial(_reach, model, held.get(model.source), default)))
        for model in models
    ]
    stored = [
        kept(model, partial(_put, actor, account, model, held.get(model.name), *found))
        for model, found in reached
        if found is not None
    ]
    return [put for put in stored if put is not None], refused


def _check_name(model: DeclaredModel) -> None:
    if model.name.startswith(BUILT_IN_PREFIX) or model.source.startswith(BUILT_IN_PREFIX):
        raise Unfit(
            f"The model {model.name!r} cannot be declared: {BUILT_IN_PREFIX}… are built in and "
            "need no declaration.",
            path="models",
        )
    if model.name in BUILT_IN_SCORERS:
        raise Unfit(
            f"The model {model.name!r} has the name of a built-in scorer: call it something else.",
            path="models",
        )


def _reach(
    model: DeclaredModel, source: ServedModel | None, default: ModelEndpoint | None
) -> tuple[ModelEndpoint, str]:
    """Choose the endpoint of a declared model; return it, and its own name of the model.

    A source is what an operator registered: what another declaration made of a name is not its
    source's, so that declaring again, in whatever order, gives the same. Raises Unfit.
    """
    _check_name(model)
    if (
        source is not None
        and source.kind == model.kind
        and source.declared_from in {"", source.name}
        and source.endpoint.disabled_at is None
    ):
        return source.endpoint, source.upstream_name or source.name
    if default is None:
        raise Unfit(
            f"No endpoint of the account could serve {model.source!r} for the model "
            f"{model.name!r}: add one with `manage.py add_endpoint` or in the admin.",
            path="models",
        )
    return default, model.source


def _put(
    actor: Actor,
    account: Account,
    model: DeclaredModel,
    row: ServedModel | None,
    endpoint: ModelEndpoint,
    upstream: str,
) -> PutModel:
    is_new = row is None
    row = row or ServedModel(account=account, name=model.name)
    was_registered = not is_new and not row.declared_from
    if was_registered and row.kind != model.kind:
        raise Unfit(
            f"The model {model.name!r} cannot be declared: the account has it as a model of the "
            f"kind {row.kind}.",
            path="models",
        )
    row.endpoint = endpoint
    row.upstream_name = "" if upstream == model.name else upstream
    row.kind = model.kind
    row.declared_from = model.source
    row.system_prompt = model.system_prompt
    row.prompt_is_template = model.prompt_is_template
    row.params = dump_json(dict(model.params))
    row.save()
    after = {"name": row.name, "upstream": upstream, "endpoint": endpoint.base_url}
    record(actor, "model.declare", row, after=after)
    return PutModel(row, is_new, was_registered)


def names_of_models(account: Account, names: Iterable[str]) -> set[str]:
    """Return those of the names that are models of the account's endpoints."""
    reached = ServedModel.objects.filter(account=account, endpoint__disabled_at=None)
    return set(reached.filter(name__in=names).values_list("name", flat=True))
