"""create_api_key and show_account."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from apps.accounts.models import Account, ApiKey, User
from apps.accounts.roles import Role
from apps.accounts.services.actors import actor_for_key
from apps.accounts.services.keys import SERVICE_EMAIL
from tests.factories import make_account, make_actor

pytestmark = pytest.mark.django_db


def output_of(*words: str) -> str:
    out, err = StringIO(), StringIO()
    call_command(*words, stdout=out, stderr=err)
    assert err.getvalue() == ""
    return out.getvalue()


def test_a_new_key_is_all_that_is_printed_and_works():
    printed = output_of("create_api_key", "--account", "Acme")
    actor = actor_for_key(printed.removesuffix("\n"))
    assert (actor.account.name, actor.user.email) == ("Acme", SERVICE_EMAIL)
    assert actor.roles[actor.account.pk] == Role.ADMIN


def test_a_second_key_uses_the_account_and_user_of_the_first():
    words = ["create_api_key", "--account", "Acme", "--email", "ann@example.com"]
    assert output_of(*words) != output_of(*words)
    assert (Account.objects.count(), User.objects.count(), ApiKey.objects.count()) == (1, 1, 2)


def test_a_key_has_the_role_name_and_life_asked_for():
    words = [
        "create_api_key",
        "--account",
        "Acme",
        "--role",
        "viewer",
        "--name",
        "CI",
        "--expires-days",
        "2",
    ]
    actor = actor_for_key(output_of(*words).strip())
    assert actor.roles[actor.account.pk] == Role.VIEWER
    key = ApiKey.objects.get()
    assert key.name == "CI"
    assert 1.9 < (key.expires_at - timezone.now()).total_seconds() / 86_400 < 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--email", "nobody"], "valid email"),
        (["--role", "god"], "invalid choice"),
        (["--expires-days", "-1"], "future"),
    ],
)
def test_a_key_that_cannot_be_is_refused_and_nothing_is_made(options, reason):
    with pytest.raises(CommandError, match=reason):
        call_command("create_api_key", "--account", "Acme", *options)
    assert not Account.objects.exists()
    assert not User.objects.exists()


def test_a_key_stronger_than_its_user_is_refused():
    editor = make_actor(Role.EDITOR, account=make_account("Acme"))
    words = ["--account", "Acme", "--email", editor.user.email, "--role", "admin"]
    with pytest.raises(CommandError, match="is editor in Acme"):
        call_command("create_api_key", *words)


def test_an_account_is_shown_as_its_id_alone():
    account = make_account("Acme")
    assert output_of("show_account", "Acme") == f"{account.pk}\n"


def test_an_unknown_account_is_an_error():
    with pytest.raises(CommandError, match="There is no account named 'Acme'"):
        call_command("show_account", "Acme")
