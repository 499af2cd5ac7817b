"""A server is looked at before it is stored: a URL corrected or refused, a changed key told."""

import json

import pytest

from apps.accounts.models import AuditEvent
from apps.errors import Refusal
from apps.inference.looking import register_endpoint, trimmed
from apps.inference.models import ModelEndpoint
from apps.inference.server_settings import ServerSettings
from tests.clients.raw_server import raw_servers
from tests.factories import make_actor

pytestmark = pytest.mark.django_db


@pytest.fixture
def actor():
    return make_actor()


@pytest.fixture
def serve():
    """Start a server that answers some paths with JSON, and all others with 404."""
    with raw_servers() as start:

        def make(**answers):
            def script(peer):
                while request := peer.request():
                    path = request.split(b" ")[1].decode()
                    status, body = answers.get(path.strip("/").replace("/", "_"), (404, "nothing"))
                    said = body if isinstance(body, str) else json.dumps(body)
                    peer.send(
                        b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b"
                        % (status, len(said), said.encode())
                    )

            return start(script)

        yield make


def register(actor, base_url, **given):
    return register_endpoint(
        actor, base_url=base_url, **{"allow_private": True, "models": ["echo"], **given}
    )


def refusal(actor, base_url, **given):
    with pytest.raises(Refusal) as refused:
        register(actor, base_url, **given)
    assert not ModelEndpoint.objects.exists()
    return refused.value.messages[0]


LIST = {"object": "list", "data": [{"id": "echo"}, {"id": "other"}]}
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "yes"}}]}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://h:1/v1/chat/completions", "http://h:1/v1"),
        ("http://h:1/v1/models/", "http://h:1/v1"),
        ("http://h:1/v1/embeddings", "http://h:1/v1"),
        ("http://h:1/v1/responses?a=1", "http://h:1/v1?a=1"),
        ("http://h:1/completions", "http://h:1"),
        (" http://h:1/v1/ ", "http://h:1/v1"),
        ("http://h:1/openai/deployments/m", "http://h:1/openai/deployments/m"),
    ],
)
def test_what_clients_add_to_a_url_themselves_is_cut(given, kept):
    assert trimmed(given).base_url == kept


def test_a_server_that_lists_its_models_is_stored_and_what_it_lacks_is_told(actor, server):
    assert register(actor, server.base_url).notes == []
    made = register(actor, server.base_url, models=["echo", "gone"])
    assert made.notes == ["It does not list gone: it lists echo."]
    made = register_endpoint(make_actor(), base_url=server.base_url, allow_private=True)
    assert made.notes == ["It lists echo."]


@pytest.mark.parametrize(
    ("paths", "given", "kept"),
    [
        ({"v1_models": (200, LIST)}, "", "/v1"),
        ({"v1_models": (200, LIST), "models": (200, "<html>Welcome</html>")}, "", "/v1"),
        ({"models": (200, LIST)}, "", ""),
        ({"api_v1_models": (200, LIST)}, "/api", "/api/v1"),
        ({"v1_chat_completions": (200, ANSWER)}, "", "/v1"),
        ({"openai_chat_completions": (200, ANSWER)}, "/openai", "/openai"),
        ({"v1_models": (200, LIST["data"])}, "/v1", "/v1"),
        ({"v1_models": (503, "loading")}, "/v1", "/v1"),
    ],
)
def test_a_url_is_stored_as_the_server_answers_at_it(actor, serve, paths, given, kept):
    server = serve(**paths)
    root = server.url().removesuffix("/v1")
    made = register(actor, root + given)
    assert made.endpoint.base_url == root + kept
    if given != kept:
        assert made.notes[0] == f"The URL is stored as {root}{kept}: without /v1 nothing answers."


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ({}, "404"),
        ({"v1_models": (401, {"error": {"message": "Bad key!"}})}, "Bad key! Check its key"),
        ({"v1_models": (401, {"error": {"message": "bad key"}})}, "bad key. Check its key"),
        ({"v1_models": (403, {"error": "no"})}, "Check its key"),
        ({"v1_chat_completions": (400, {"error": "no such model"})}, "no such model"),
    ],
)
def test_a_server_that_does_not_serve_is_refused_in_its_own_words(actor, serve, paths, words):
    said = refusal(actor, serve(**paths).url())
    assert words in said
    assert "not be looked at" in said


def test_one_that_is_not_there_or_may_not_be_reached_is_refused(actor, server):
    assert "could not be reached" in refusal(actor, "http://127.0.0.1:9/v1")
    assert "private" in refusal(actor, server.base_url, allow_private=False)
    assert "name one" in refusal(actor, f"{server.url}/nothing", models=[])
    assert "must begin with http" in refusal(actor, "ftp://h/v1")


def test_whoever_says_so_stores_a_server_unseen(actor):
    made = register(actor, "http://127.0.0.1:9/v1/chat/completions", looks=False)
    assert made.endpoint.base_url == "http://127.0.0.1:9/v1"
    assert AuditEvent.objects.filter(action="endpoint.add").exists()


def test_a_key_that_replaces_another_is_told_with_its_models(actor, server):
    old = {"models": ["a", "b", "c", "d"], "api_key": "old"}
    assert register(actor, server.base_url, **old, looks=False).notes == []
    for looks in (True, False):
        told = register(actor, server.base_url, models=[], api_key=f"new-{looks}", looks=looks)
        assert "The key changed for 4 models." in told.notes
        again = register(actor, server.base_url, models=[], api_key=told.endpoint.api_key)
        assert "The key changed for 4 models." not in again.notes


def test_a_limit_alone_is_changed_without_a_look(actor):
    register(actor, "http://127.0.0.1:9/v1", looks=False)
    made = register_endpoint(actor, base_url="http://127.0.0.1:9/v1", concurrency=3)
    assert made.endpoint.concurrency == 3


def test_settings_count_in_the_look(actor, serve):
    def answer(peer):
        while request := peer.request():
            good = b"api-key: k\r\n" in request and b"?api-version=1 " in request
            said = json.dumps(LIST) if good else "{}"
            peer.send(
                b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b"
                % (200 if good else 401, len(said), said.encode())
            )

    with raw_servers() as start:
        url = start(answer).url()
        assert "401" in refusal(actor, url, api_key="k")
        register(
            actor,
            url,
            api_key="k",
            settings=ServerSettings(key_header="api-key", query="api-version=1"),
        )
