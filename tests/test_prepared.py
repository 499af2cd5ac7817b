"""A compiled query finds what its queryset finds, with every value that it is given."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apps.accounts.models import ApiKey
from apps.prepared import Prepared, PreparedPages
from tests.factories import make_actor, make_key

pytestmark = pytest.mark.django_db

FIELDS = ("pk", "user_id", "role", "created_at", "expires_at", "user__is_active")
KEYS = Prepared(
    lambda account_id, now: (
        ApiKey.objects.owned_by(account_id).usable(now).order_by("pk").values_list(*FIELDS)
    )
)

PAGES = PreparedPages(
    lambda account_id: ApiKey.objects.owned_by(account_id).values_list("created_at", "id"),
    ("created_at", "id"),
)


def test_rows_are_those_of_the_queryset_for_whatever_arguments():
    now = timezone.now()
    actors = [make_actor(), make_actor()]
    for actor in actors:
        make_key(actor)
        make_key(actor, expires_at=now + timedelta(hours=1))
    for actor in (*actors, make_actor()):
        for moment in (now, now + timedelta(hours=2)):
            wanted = ApiKey.objects.visible_to(actor).usable(moment).order_by("pk")
            found = KEYS.rows(account_id=actor.account.pk, now=moment)
            assert found == list(wanted.values_list(*FIELDS))
            assert KEYS.rows(account_id=actor.account.pk, now=moment, limit=1) == found[:1]
            first = KEYS.first(account_id=actor.account.pk, now=moment)
            assert first == (found[0] if found else None)


@pytest.mark.parametrize("descending", [False, True])
def test_compiled_pages_hold_each_row_of_the_account_once_and_in_order(descending):
    actor = make_actor()
    make_key()  # another account's
    moment = timezone.now()
    for minute in (1, 0, 0, 2, 1):
        key, _ = make_key(actor)
        created_at = moment + timedelta(minutes=minute)
        ApiKey.objects.filter(pk=key.pk).update(created_at=created_at)
    found: list[tuple[Any, ...]] = []
    while page := PAGES.rows(
        found[-1] if found else None, descending=descending, limit=2, account_id=actor.account.pk
    ):
        found += page
    wanted = ApiKey.objects.visible_to(actor).order_by("created_at", "id")
    rows = [*wanted.values_list("created_at", "id")]
    assert found == (rows[::-1] if descending else rows)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL prepares by itself")
def test_a_statement_is_prepared_on_its_connection_and_ran_from_there():
    actor = make_actor()
    now = timezone.now()
    for _ in range(2):
        KEYS.rows(account_id=actor.account.pk, now=now)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(generic_plans + custom_plans) FROM pg_prepared_statements "
            "WHERE statement LIKE '%%accounts_apikey%%'"
        )
        assert cursor.fetchone()[0] >= 2


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite's driver keeps no texts")
def test_the_driver_keeps_no_statement_with_its_values() -> None:
    actor = make_actor()
    KEYS.rows(account_id=actor.account.pk, now=timezone.now())
    make_key(actor, name="b" * 100)
    # Private, but this is what once took as much memory as a hundred pieces of files.
    assert not connection.connection._prepared._counts
