"""The law of the whole project: no route shows one account what another owns."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from apps.accounts.models import Actor
from apps.datasets.models import Dataset, File
from apps.datasets.stored_files import store_file
from apps.evaluations.engine.worker import Worker
from apps.evaluations.models import Evaluation, Result, Run
from apps.inference.models import StoredCompletion
from apps.inference.stored_completions import Keep, store_completion
from evalplatform.dialects.kit.dialect import dialects
from tests.factories import ask, make_actor, make_evaluation, make_key, make_run, make_version

METHODS = ("get", "post", "put", "patch", "delete")
# Routes of one owner: their parameters name things, and the things here belong to somebody else.
OPEN_PREFIXES = ("admin/", "static/")
# Names that are not ids of owned rows.
HARMLESS = {"model": "builtin/echo", "deployment": "builtin"}
PREFIXES = tuple({path for dialect in dialects() for path in (dialect.prefix, *dialect.doors)})


def patterns(
    resolver: URLResolver | None = None, prefix: str = ""
) -> Iterator[tuple[str, URLPattern]]:
    for entry in (resolver or get_resolver()).url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from patterns(entry, route)
        else:
            yield route, entry


ROUTES = sorted(
    {
        route
        for route, entry in patterns()
        if entry.pattern.converters and not route.startswith(OPEN_PREFIXES)
    }
)


def call(client: Client, method: str, path: str, body: Any = None, **headers: str) -> Any:
    content = {"data": body, "content_type": "application/json"} if body is not None else {}
    return getattr(client, method)(f"/{path}", **content, **headers)


class Owner:
    """An account with one of everything."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.key = {"HTTP_AUTHORIZATION": f"Bearer {make_key(actor)[1]}"}
        version = make_version(actor)
        evaluation = make_evaluation(actor)
        Evaluation.objects.filter(pk=evaluation.pk).update(call_name=f"named {evaluation.pk.hex}")
        run = make_run(actor, evaluation=evaluation)
        Worker().run()
        make_run(actor, evaluation=evaluation, target=ask())
        self.rows = {
            "dataset": version.dataset,
            "evaluation": Evaluation.objects.get(pk=evaluation.pk),
            "run": run,
            "result": Result.objects.of_run(run)[0],
            "file": store_file(actor, filename="a.jsonl", purpose="evals", chunks=[b"{}"]),
            "completion": self.keep(StoredCompletion.Kind.CHAT),
            "response": self.keep(StoredCompletion.Kind.RESPONSES),
        }

    def keep(self, kind: str) -> StoredCompletion:
        message = {"role": "assistant", "content": "ours"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return store_completion(
            self.actor,
            Keep(kind, messages=[{"role": "user", "content": "ours"}], params={}),
            model="builtin/echo",
            completion={"choices": [choice]},
        )

    def parameters(self, route: str) -> dict[str, str]:
        """Give the route's parameters ids of this owner's rows, as the route spells them."""
        found = dict(HARMLESS)
        for dialect in dialects():
            if dialect.is_below(route):
                owned = import_module(f"tests.dialects.{dialect.name}.owned")
                found |= owned.parameters(self.rows)
        if route.startswith("app/"):
            found |= {f"{noun}_id": str(row.pk) for noun, row in self.rows.items()}
            found["result_id"] = str(self.rows["result"].shown_id)
        return found


def path_of(route: str, parameters: dict[str, str]) -> str:
    path = route
    while "<" in path:
        before, _, rest = path.partition("<")
        parameter, _, after = rest.partition(">")
        name = parameter.rpartition(":")[2]
        assert name in parameters, f"{route}: say in its dialect's owned.py what {name} is an id of"
        path = f"{before}{parameters[name]}{after}"
    return path


@pytest.mark.django_db(transaction=True)
def test_another_accounts_ids_are_not_found_on_any_route() -> None:
    owner, stranger = Owner(make_actor()), Owner(make_actor())
    keyed, signed_in = Client(), Client()
    signed_in.force_login(stranger.actor.user)
    before = counts(owner)
    assert ROUTES
    for route in ROUTES:
        path = path_of(route, owner.parameters(route))
        if all(value not in path for value in ids(owner, route)):
            continue
        for method in METHODS:
            for client, headers in ((keyed, stranger.key), (signed_in, {})):
                if client is keyed and route.startswith("app/"):
                    continue
                answer = call(client, method, path, {} if method != "get" else None, **headers)
                assert answer.status_code in {404, 405}, (method, path, answer.content[:300])
    assert counts(owner) == before


def ids(owner: Owner, route: str) -> list[str]:
    return [v for k, v in owner.parameters(route).items() if k not in HARMLESS]


def counts(owner: Owner) -> list[Any]:
    account = owner.actor.account
    owned = [
        list(model.objects.filter(account=account).order_by("pk").values())
        for model in (Evaluation, Run, File, Dataset, StoredCompletion)
    ]
    results = [
        list(Result.objects.of_run(run).values()) for run in Run.objects.filter(account=account)
    ]
    return [*owned, *results]


@pytest.mark.django_db(transaction=True)
def test_lists_hold_only_what_the_account_owns() -> None:
    owner, stranger = Owner(make_actor()), Owner(make_actor())
    signed_in = Client()
    signed_in.force_login(stranger.actor.user)
    secrets = [
        value
        for route in (*PREFIXES, "app/")
        for key, value in owner.parameters(route).items()
        if key not in HARMLESS
    ]
    lists = [r for r, e in patterns() if not e.pattern.converters]
    for route in lists:
        if route.startswith((*OPEN_PREFIXES, "metrics", "schema/", "docs/")):
            continue
        headers = stranger.key if route.startswith(PREFIXES) else {}
        answer = call(signed_in, "get", route, **headers)
        body = b"".join(answer.streaming_content) if answer.streaming else answer.content
        for secret in secrets:
            assert secret.encode() not in body, route
