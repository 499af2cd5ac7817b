"""Look at a model server before it is stored, and try it when somebody asks."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from yarl import URL

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.clients import CallFailed, Lessons, RetryPolicy, Unlimited, UrlRefused, check_url
from apps.clients.adapting import AdaptingClient
from apps.errors import Invalid, Unfit
from apps.inference.endpoints import add_endpoint
from apps.inference.models import ModelEndpoint, ServedModel
from apps.inference.server_settings import ServerSettings, connect

T = TypeVar("T")

POLICY = RetryPolicy(
    connecting_seconds=0, answered_tries=1, invalid_tries=1, call_seconds=20, connect_seconds=10
)
# Of what people copy from a page of documentation; clients add it themselves.
TAILS = ("/chat/completions", "/completions", "/embeddings", "/responses", "/models")
VERSION = "v1"
NAMES_SHOWN = 12
TESTED_MAX = 20  # models of an endpoint that are tried at once
UNCHECKED = "To store it all the same, say that it shall not be looked at."


@dataclass
class Look:
    """A server as it was found. base_url: the one to store. notes: sentences for people."""

    base_url: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Registration:
    """An endpoint that was stored, and sentences on what was found and changed."""

    endpoint: ModelEndpoint
    notes: Sequence[str]


def register_endpoint(
    actor: Actor,
    *,
    base_url: str,
    looks: bool = True,
    api_key: str | None = None,
    allow_private: bool | None = None,
    settings: ServerSettings | None = None,
    **given: Any,
) -> Registration:
    """Store an endpoint as add_endpoint does, after a look at its server.

    looks: False stores it unseen. What is registered already is looked at again only where
    something is given that decides whether it answers. Must not be called in a transaction.
    Raises as add_endpoint does, and Unfit for a server that does not answer.
    """
    actor.require(Action.MANAGE)
    settings = settings or ServerSettings()
    models = [*given.get("models", ()), *(given.get("aliases") or {}).values()]
    changes: dict[str, Any] = {
        "api_key": api_key,
        "allow_private": allow_private,
        "settings": settings,
    }
    look = trimmed(base_url)
    reaching = (api_key, allow_private, models or None, None if settings.is_empty else settings)
    is_new = _kept(actor, look.base_url) is None
    if looks and (is_new or any(one is not None for one in reaching)):
        look = look_before(actor, base_url=base_url, models=models, **changes)
    else:
        look.notes += _notes_on_key(actor, look.base_url, api_key)
    endpoint = add_endpoint(actor, base_url=look.base_url, **changes, **given)
    return Registration(endpoint, look.notes)


def look_before(
    actor: Actor,
    *,
    base_url: str,
    models: Sequence[str],
    api_key: str | None,
    allow_private: bool | None,
    settings: ServerSettings,
) -> Look:
    """Look at a server as it would be stored. Raises Invalid, and Unfit where nothing answers."""
    actor.require(Action.MANAGE)
    look = trimmed(base_url)
    kept = _kept(actor, look.base_url)
    seen = copy(kept) if kept else ModelEndpoint(account=actor.account, base_url=look.base_url)
    seen.api_key = seen.api_key if api_key is None else api_key
    seen.allow_private = seen.allow_private if allow_private is None else allow_private
    settings.apply_to(seen)
    found = look_at(seen, models)
    notes = [*look.notes, *found.notes, *_notes_on_key(actor, found.base_url, api_key)]
    return Look(found.base_url, notes)


def _notes_on_key(actor: Actor, base_url: str, api_key: str | None) -> list[str]:
    kept = _kept(actor, base_url)
    if not (kept and kept.api_key and api_key and kept.api_key != api_key):
        return []
    count = kept.models.count()
    return [f"The key changed for {count} {'model' if count == 1 else 'models'}."]


def _kept(actor: Actor, base_url: str) -> ModelEndpoint | None:
    return ModelEndpoint.objects.filter(account=actor.account, base_url=base_url).first()


def trimmed(base_url: str) -> Look:
    """Cut from a URL what clients add to it themselves. Raises Invalid for what is no URL."""
    given = base_url.strip().rstrip("/")
    try:
        url = check_url(given)
    except UrlRefused as error:
        raise Invalid(str(error), path="base_url") from error
    path = url.path.rstrip("/")
    for tail in TAILS:
        if path.endswith(tail):
            cut = url.with_path(path.removesuffix(tail)).with_query(url.query)
            shown = str(cut).rstrip("/")
            return Look(shown, [f"The URL is stored as {shown}, without {tail}."])
    return Look(given)


def look_at(endpoint: ModelEndpoint, models: Sequence[str]) -> Look:
    """Find out whether a server answers at its URL, or at that with /v1. Raises Unfit.

    models: names that it shall serve; the first is asked for a word where it lists none.
    """
    return asyncio.run(_look_at(endpoint, models))


async def _look_at(endpoint: ModelEndpoint, models: Sequence[str]) -> Look:
    bases = [endpoint.base_url]
    url = URL(endpoint.base_url)
    if VERSION not in url.path:
        bases.append(str((url / VERSION).with_query(url.query)))
    failures = []
    for base_url in bases:
        try:
            names = await _asked(endpoint, base_url, lambda client: client.list_models())
        except CallFailed as failure:
            failures.append(failure)
            if _is_elsewhere(failure):
                continue
            if _is_only_busy(failure):
                return Look(base_url, [f"It is there, though busy: {failure.message}"])
            raise Unfit(_words(failure), path="base_url") from None
        return Look(base_url, [*_moved(endpoint, base_url), *_notes_on(names, models)])
    if not models:
        raise Unfit(
            f"{failures[0].message} It lists no models: name one, so that it can be asked for a "
            f"word, and check that the URL goes up to /v1. {UNCHECKED}",
            path="base_url",
        )
    return await _ask_for_a_word(endpoint, bases, models[0])


async def _ask_for_a_word(endpoint: ModelEndpoint, bases: Sequence[str], model: str) -> Look:
    failures = []
    for base_url in bases:
        try:
            await _asked(endpoint, base_url, lambda client: client.complete(_word_of(model)))
        except CallFailed as failure:
            failures.append(failure)
            if not _is_elsewhere(failure):
                break
        else:
            notes = _moved(endpoint, base_url)
            return Look(base_url, [*notes, f"It lists no models, but {model} answered."])
    raise Unfit(_words(failures[-1]), path="base_url")


async def _asked(
    endpoint: ModelEndpoint,
    base_url: str,
    ask: Callable[[AdaptingClient], Coroutine[Any, Any, T]],
) -> T:
    seen = copy(endpoint)
    seen.base_url = base_url
    try:
        client = connect(seen, Unlimited(), POLICY, Lessons())
    except ValueError as error:
        raise Invalid(str(error), path="base_url") from error
    try:
        return await ask(client)
    finally:
        await client.close()


def _word_of(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Reply with one word: yes"}]}


def _is_elsewhere(failure: CallFailed) -> bool:
    """Tell whether this is no page of the API, so that another URL may have it."""
    return failure.status in {404, 405, 501} or failure.code == "model_reply_invalid"


def _is_only_busy(failure: CallFailed) -> bool:
    return failure.status is not None and (failure.status == 429 or failure.status >= 500)


def _words(failure: CallFailed) -> str:
    advice = ""
    if failure.code == "model_address_refused":
        advice = " Say that it may be a private address, if it is to be one."
    elif failure.status in {401, 403}:
        advice = " Check its key, and the header in which it is sent."
    told = failure.message if failure.message.endswith((".", "!", "?")) else f"{failure.message}."
    return f"{told}{advice} {UNCHECKED}"


def _moved(endpoint: ModelEndpoint, base_url: str) -> list[str]:
    if base_url == endpoint.base_url:
        return []
    return [f"The URL is stored as {base_url}: without /{VERSION} nothing answers."]


def _notes_on(names: Sequence[str], models: Sequence[str]) -> list[str]:
    shown = ", ".join(names[:NAMES_SHOWN])
    if len(names) > NAMES_SHOWN:
        shown += f" and {len(names) - NAMES_SHOWN} more"
    missing = [name for name in models if name not in names]
    if missing and names:
        return [f"It does not list {', '.join(missing)}: it lists {shown}."]
    return [] if models or not names else [f"It lists {shown}."]


@dataclass(frozen=True)
class Tried:
    """The outcome of trying one thing of a server."""

    is_good: bool
    words: str


def try_endpoint(actor: Actor, endpoint: ModelEndpoint) -> list[Tried]:
    """Ask a server for its list, and each of its models for one word, as runs would."""
    actor.require(Action.MANAGE, endpoint.account)
    whole = ModelEndpoint.objects.get(pk=endpoint.pk)  # with its secrets, which lists do not read
    models = list(endpoint.models.order_by("name")[:TESTED_MAX])
    return asyncio.run(_try_all(whole, models))


async def _try_all(endpoint: ModelEndpoint, models: Sequence[ServedModel]) -> list[Tried]:
    client = connect(endpoint, Unlimited(), POLICY, Lessons())
    try:
        listed = _try_list(client, [model.upstream_name or model.name for model in models])
        return list(await asyncio.gather(listed, *(_try_model(client, one) for one in models)))
    finally:
        await client.close()


async def _try_list(client: AdaptingClient, models: Sequence[str]) -> Tried:
    try:
        names = await client.list_models()
    except CallFailed as failure:
        return Tried(_is_elsewhere(failure), f"No list of models: {failure.message}")
    notes = _notes_on(names, models)
    return Tried(not notes, notes[0] if notes else "It lists its models.")


async def _try_model(client: AdaptingClient, model: ServedModel) -> Tried:
    name = model.upstream_name or model.name
    began = time.monotonic()
    try:
        if model.kind == ServedModel.Kind.EMBEDDING:
            reply = await client.embed({"model": name, "input": ["yes"]})
            said = f"a vector of {len(reply.body['data'][0]['embedding'])} numbers"
        else:
            reply = await client.complete(_word_of(name))
            said = repr(str(reply.body["choices"][0]["message"].get("content"))[:60])
    except CallFailed as failure:
        return Tried(False, f"{model.name}: {failure.message}")
    notes = "".join(f" {note}" for note in reply.notes)
    took = time.monotonic() - began
    return Tried(True, f"{model.name} answered {said} within {took:.1f} s.{notes}")
