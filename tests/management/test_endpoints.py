"""add_endpoint."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from apps.accounts.roles import Role
from apps.clients import Extras
from apps.inference.models import ModelEndpoint, ServedModel
from apps.inference.server_settings import extras_of
from tests.factories import make_account, make_actor

pytestmark = pytest.mark.django_db
URL = "http://models.example.com/v1"


@pytest.fixture
def account():
    account = make_account("Acme")
    make_actor(Role.ADMIN, account=account)
    return account


def add(*words: str) -> str:
    out = StringIO()
    given = ("--account", "Acme", "--base-url", URL, "--unchecked")
    call_command("add_endpoint", *given, *words, stdout=out)
    return out.getvalue()


def test_an_endpoint_is_registered_with_its_models(account):
    printed = add("b", "a")
    assert printed == f"Registered {URL} serving a, b (64 calls at once).\n"
    endpoint = ModelEndpoint.objects.get()
    assert (endpoint.account, endpoint.api_key, endpoint.allow_private) == (account, "", False)


def test_the_key_is_read_from_the_variable_and_kept_encrypted(account, monkeypatch):
    monkeypatch.setenv("MODEL_KEY", "sk-very-secret")
    assert "sk-very-secret" not in add("a", "--api-key-env", "MODEL_KEY")
    assert ModelEndpoint.objects.get().api_key == "sk-very-secret"
    # Compared in the database, where it is a token that differs each time it is made.
    assert not ModelEndpoint.objects.filter(api_key="sk-very-secret").exists()


@pytest.mark.parametrize("value", [None, "", " "])
def test_a_variable_without_a_key_is_an_error_and_nothing_is_registered(
    account, monkeypatch, value
):
    monkeypatch.delenv("MODEL_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MODEL_KEY", value)
    with pytest.raises(CommandError, match="MODEL_KEY is not set, or empty"):
        add("a", "--api-key-env", "MODEL_KEY")
    assert not ModelEndpoint.objects.exists()


def test_limits_aliases_and_embedding_models_are_kept(account):
    add(
        *("theirs", "--concurrency", "8", "--allow-private", "--embedding-model", "vectors"),
        *("--alias", "GPT_4O=theirs", "--alias", "GPT_4=theirs=2"),
    )
    endpoint = ModelEndpoint.objects.get()
    assert (endpoint.concurrency, endpoint.allow_private) == (8, True)
    assert set(ServedModel.objects.values_list("name", "upstream_name", "kind")) == {
        ("theirs", "", "chat"),
        ("vectors", "", "embedding"),
        ("GPT_4O", "theirs", "chat"),
        ("GPT_4", "theirs=2", "chat"),
    }


def test_a_second_call_adds_models_and_keeps_what_it_does_not_name(account, monkeypatch):
    monkeypatch.setenv("MODEL_KEY", "sk-very-secret")
    add("a", "--concurrency", "8", "--allow-private", "--api-key-env", "MODEL_KEY")
    assert "serving a, b (8 calls at once)" in add("b")
    endpoint = ModelEndpoint.objects.get()
    assert (endpoint.api_key, endpoint.allow_private) == ("sk-very-secret", True)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["a", "--concurrency", "0"], "concurrency must be 1 to 10000"),
        (["a", "--alias", "GPT_4O"], "--alias takes NAME=MODEL"),
        (["builtin/mine"], "does not begin with builtin/"),
        (["a", "--base-url", "ftp://models.example.com"], "http"),
        (["a", "--header", "no colon"], "Name: value"),
        (["a", "--key-header", "a key"], "no name of a header"),
        (["a", "--secret-header-env", "X-Token"], "NAME=VARIABLE"),
        (["a", "--call-seconds", "-1"], "call_seconds must be 0 to"),
        (["a", "--query", "a b"], "as in a URL"),
    ],
)
def test_what_cannot_be_registered_is_refused(account, words, reason):
    with pytest.raises(CommandError, match=reason):
        add(*words)
    assert not ModelEndpoint.objects.exists()


def test_an_unknown_account_is_an_error():
    with pytest.raises(CommandError, match="There is no account named 'Acme'"):
        add("a")


def test_what_a_server_wants_beyond_url_and_key_is_kept_changed_and_taken_away(
    account, monkeypatch
):
    monkeypatch.setenv("TOKEN", "tok-secret")
    monkeypatch.setenv("PROXY", "http://me:pass@proxy.example.com:3128")
    printed = add(
        *("a", "--key-header", "api-key", "--header", "X-Title: evals", "--header", "X-A:1"),
        *("--secret-header-env", "X-Token=TOKEN", "--query", "?api-version=2024-10-21"),
        *("--proxy-env", "PROXY", "--call-seconds", "600", "--strip-think"),
    )
    assert "tok-secret" not in printed
    endpoint = ModelEndpoint.objects.get()
    assert extras_of(endpoint) == Extras(
        key_header="api-key",
        headers={"X-Title": "evals", "X-A": "1"},
        secret_headers={"X-Token": "tok-secret"},
        query="api-version=2024-10-21",
        proxy="http://me:pass@proxy.example.com:3128",
        strips_think=True,
    )
    assert endpoint.call_seconds == 600
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret_headers, proxy FROM inference_modelendpoint")
        assert not any(word in str(cursor.fetchone()) for word in ("tok-", "X-Token", "pass"))
    add("b", "--concurrency", "3")
    endpoint.refresh_from_db()
    assert endpoint.key_header == "api-key"
    monkeypatch.setenv("TOKEN", "other")
    add("--header", "X-A: 2", "--secret-header-env", "x-other=TOKEN")
    endpoint.refresh_from_db()
    assert extras_of(endpoint).headers == {"X-A": "2"}
    assert extras_of(endpoint).secret_headers == {"X-Token": "tok-secret", "x-other": "other"}
    add(
        *("--key-header=", "--secret-header-env", "x-token=", "--query=", "--proxy-env="),
        *("--call-seconds", "0", "--no-strip-think"),
    )
    endpoint.refresh_from_db()
    assert extras_of(endpoint) == Extras(headers={"X-A": "2"}, secret_headers={"x-other": "other"})
    assert endpoint.call_seconds is None
