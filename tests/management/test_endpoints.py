"""add_endpoint."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from apps.accounts.roles import Role
from apps.inference.models import ModelEndpoint, ServedModel
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
    call_command("add_endpoint", "--account", "Acme", "--base-url", URL, *words, stdout=out)
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
    ],
)
def test_what_cannot_be_registered_is_refused(account, words, reason):
    with pytest.raises(CommandError, match=reason):
        add(*words)
    assert not ModelEndpoint.objects.exists()


def test_an_unknown_account_is_an_error():
    with pytest.raises(CommandError, match="There is no account named 'Acme'"):
        add("a")
