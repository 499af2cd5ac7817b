"""Register model servers, their models and prices, and disable them."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Account, Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.clients import UrlRefused, check_url
from apps.errors import Invalid, Unfit
from apps.inference.models import ModelEndpoint, ServedModel
from apps.inference.paces import end_denials, forget
from apps.inference.served_models import BUILT_IN_PREFIX, _shown_price
from apps.inference.server_settings import ServerSettings

PRICE_LIMIT = 1_000_000
PER_MINUTE_MAX = 1_000_000_000
UNCHANGED = ServerSettings()


@transaction.atomic
def add_endpoint(
    actor: Actor,
    *,
    base_url: str,
    models: Sequence[str] = (),
    api_key: str | None = None,
    concurrency: int | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    allow_private: bool | None = None,
    embedding_models: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
    settings: ServerSettings = UNCHANGED,
    enables: bool = True,
) -> ModelEndpoint:
    """Register a model server, or change what is given of the one with this URL.

    models: names that it serves. aliases: a name callers use -> the server's own name. requests_
    and tokens_per_minute: 0 takes the limit away. settings: what it wants beyond URL and key.
    enables: also one that was disabled.
    Raises Invalid, and Unfit for a name that another endpoint of the account serves.
    """
    account = actor.require(Action.MANAGE)
    base_url = base_url.strip().rstrip("/")
    try:
        check_url(base_url)
    except UrlRefused as error:
        raise Invalid(str(error), path="base_url") from error
    if concurrency is not None and not 1 <= concurrency <= 10_000:
        raise Invalid(f"concurrency must be 1 to 10000, not {concurrency}.", path="concurrency")
    minutely = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
    _check_per_minute(minutely)
    endpoint, is_new = ModelEndpoint.objects.select_for_update().get_or_create(
        account=account, base_url=base_url
    )
    given = {"api_key": api_key, "concurrency": concurrency, "allow_private": allow_private}
    for field, value in {**given, **minutely}.items():
        if value is not None:
            setattr(endpoint, field, (value or None) if field in minutely else value)
    settings.apply_to(endpoint)
    if enables:
        endpoint.disabled_at = None
    endpoint.save()
    if api_key is not None:
        end_denials(endpoint.pk)
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


def _check_per_minute(limits: Mapping[str, int | None]) -> None:
    for name, limit in limits.items():
        if limit is not None and not 0 <= limit <= PER_MINUTE_MAX:
            raise Invalid(f"{name} must be 0 to {PER_MINUTE_MAX}, not {limit}.", path=name)


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
        raise Unfit(
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
    """Disable an endpoint, or enable it; runs that need a disabled one fail."""
    actor.require(Action.MANAGE, endpoint.account)
    changed = ModelEndpoint.objects.filter(pk=endpoint.pk, disabled_at__isnull=is_disabled)
    if changed.update(disabled_at=timezone.now() if is_disabled else None):
        record(actor, "endpoint.disable" if is_disabled else "endpoint.enable", endpoint)
    endpoint.refresh_from_db(fields=["disabled_at"])


@transaction.atomic
def forget_limits(actor: Actor, endpoint: ModelEndpoint) -> None:
    """Forget what an endpoint's refusals taught, and end its pause; limits set by hand stay."""
    actor.require(Action.MANAGE, endpoint.account)
    forget(endpoint.pk)
    record(actor, "endpoint.forget_limits", endpoint)


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
