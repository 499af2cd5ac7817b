"""Prepare an account for the demo: its administrator, an API key and labelled tickets."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist

from apps.accounts.models import Actor, User
from apps.accounts.services.actors import actor_for_key
from apps.accounts.services.keys import provide_key
from apps.datasets.import_export import import_cases
from apps.datasets.reading import find_version
from apps.datasets.tabular import read_jsonl
from evalplatform.environment import kept_secret

ACCOUNT = "demo"
EMAIL = "admin@example.com"
DATASET = "support-tickets"
TICKETS = Path(__file__).with_name("support_tickets.jsonl")
PASSWORD_NAME, KEY_NAME = "DEMO_ADMIN_PASSWORD", "DEMO_API_KEY"


@dataclass(frozen=True)
class Access:
    """The credentials that the demo prints. password: None once somebody has changed it."""

    email: str
    password: str | None
    key: str


def tickets() -> tuple[list[bytes], list[bytes]]:
    """Read the tickets as lines of JSON: the half to learn from, and the half to be sorted."""
    lines = TICKETS.read_bytes().splitlines()
    half = len(lines) // 2
    return lines[:half], lines[half:]


def prepare() -> Access:
    """Make what is missing and leave alone what is there, so that a second call does no harm."""
    password = _provide_admin()
    actor, key = _provide_actor()
    _provide_dataset(actor)
    return Access(EMAIL, password, key)


def _provide_admin() -> str | None:
    password = kept_secret(PASSWORD_NAME, settings.DATA_DIR, lambda: secrets.token_urlsafe(12))
    user = User.objects.filter(email__iexact=EMAIL).first()
    user = user or User.objects.create_superuser(EMAIL, password, name="Demo admin")
    return password if user.check_password(password) else None


def _provide_actor() -> tuple[Actor, str]:
    """Find or make the demo's key, and return its actor and secret.

    A key that no longer works is replaced. Raises ObjectDoesNotExist for one that an operator set.
    """
    key = _kept_key()
    if actor_for_key(key) is None:
        (settings.DATA_DIR / f"{KEY_NAME.lower()}.txt").unlink(missing_ok=True)
        key = _kept_key()
    actor = actor_for_key(key)
    if actor is None:
        raise ObjectDoesNotExist(f"The key in {KEY_NAME} does not work here.")
    return actor, key


def _kept_key() -> str:
    def issued() -> str:
        return provide_key(account_name=ACCOUNT, email=EMAIL, name="demo")[1]

    return kept_secret(KEY_NAME, settings.DATA_DIR, issued)


def _provide_dataset(actor: Actor) -> None:
    account = actor.account
    assert account is not None
    try:
        find_version(account.pk, DATASET)
    except ObjectDoesNotExist:
        labelled, _ = tickets()
        rows = read_jsonl(line + b"\n" for line in labelled)
        import_cases(actor, into=DATASET, rows=rows, label_field="category", text_field="text")
