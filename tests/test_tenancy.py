"""The law of the whole project: no route shows one account what another owns."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from apps.accounts.models import Actor
from apps.datasets.models import Dataset, File
from apps.evaluations.engine.worker import Worker
from apps.evaluations.models import Evaluation, Result, Run
from apps.inference.models import StoredCompletion
from evalplatform.dialects.openai.ids import COMPLETION_ID, RESPONSE_ID, FileId, PrefixedId
from tests.dialects.openai.caller import EVAL, chat_body, run_body
from tests.factories import make_actor, make_key, make_version

METHODS = ("get", "post", "put", "patch", "delete")
# Routes of one owner: their parameters name things, and the things here belong to somebody else.
OPEN_PREFIXES = ("admin/", "static/")
# Names that are not ids of owned rows.
HARMLESS = {"model": "builtin/echo"}


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
    """An account with one of everything, made through the wire."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.key = {"HTTP_AUTHORIZATION": f"Bearer {make_key(actor)[1]}"}
        client = Client()
        self.version = make_version(actor)
        evaluation = call(client, "post", "v1/evals", EVAL, **self.key).json()["id"]
        run = call(client, "post", f"v1/evals/{evaluation}/runs", run_body(), **self.key)
        assert run.status_code == 201, run.content
        Worker().run()
        call(client, "post", f"v1/evals/{evaluation}/runs", chat_body(), **self.key)
        message = {"role": "user", "content": "ours"}
        asked = {"model": "builtin/echo", "messages": [message], "store": True}
        call(client, "post", "v1/chat/completions", asked, **self.key)
        call(client, "post", "v1/responses", {"model": "builtin/echo", "input": "x"}, **self.key)

    def parameters(self, route: str) -> dict[str, str]:
        """Values for the route's parameters: ids of what this owner has, in the route's dress."""
        result = Result.objects.filter(account=self.actor.account).first()
        run = Run.objects.get(pk=result.run_id)
        dataset = Dataset.objects.get(account=self.actor.account)
        file = File.objects.filter(account=self.actor.account).first()
        dressed = {
            "eval_id": PrefixedId("eval").to_representation(run.evaluation_id),
            "run_id": PrefixedId("evalrun").to_representation(run.pk),
            "item_id": PrefixedId("outputitem").to_representation(result.pk),
            "file_id": FileId().to_representation(file.pk),
            "completion_id": COMPLETION_ID.to_representation(self.kept("chat")),
            "response_id": RESPONSE_ID.to_representation(self.kept("responses")),
        }
        if route.startswith("v1/"):
            return {**dressed, **HARMLESS}
        return {
            "run_id": str(run.pk),
            "result_id": str(result.pk),
            "evaluation_id": str(run.evaluation_id),
            "dataset_id": str(dataset.pk),
            "file_id": str(file.pk),
            **HARMLESS,
        }

    def kept(self, kind: str) -> Any:
        return StoredCompletion.objects.get(account=self.actor.account, kind=kind).pk


def path_of(route: str, parameters: dict[str, str]) -> str:
    path = route
    while "<" in path:
        before, _, rest = path.partition("<")
        parameter, _, after = rest.partition(">")
        name = parameter.rpartition(":")[2]
        assert name in parameters, f"{route}: say in this test what {name} is an id of"
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
    return [
        list(model.objects.filter(account=account).order_by("pk").values())
        for model in (Evaluation, Run, Result, File, Dataset, StoredCompletion)
    ]


@pytest.mark.django_db(transaction=True)
def test_lists_hold_only_what_the_account_owns() -> None:
    owner, stranger = Owner(make_actor()), Owner(make_actor())
    signed_in = Client()
    signed_in.force_login(stranger.actor.user)
    secrets = [
        value
        for route in ("v1/", "app/")
        for key, value in owner.parameters(route).items()
        if key not in HARMLESS
    ]
    lists = [r for r, e in patterns() if not e.pattern.converters]
    for route in lists:
        if route.startswith((*OPEN_PREFIXES, "metrics", "schema/", "docs/")):
            continue
        headers = stranger.key if route.startswith("v1/") else {}
        answer = call(signed_in, "get", route, **headers)
        body = b"".join(answer.streaming_content) if answer.streaming else answer.content
        for secret in secrets:
            assert secret.encode() not in body, route
