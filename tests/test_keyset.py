"""Pages by keyset hold each row once, in both directions, whatever ties there are."""

from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.evaluations.models import MachineHeartbeat
from apps.keyset import beyond, pages_of

pytestmark = pytest.mark.django_db

# Each machine's minute and number of workers; its name is what makes it unique.
machines = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=9)
orders = st.sampled_from([("host",), ("workers", "host"), ("seen_until", "workers", "host")])
# The database is given back by a rollback in each example.
many = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def keep(kept: Sequence[tuple[int, int]]) -> None:
    MachineHeartbeat.objects.bulk_create(
        MachineHeartbeat(
            host=f"m{number}",
            workers=workers,
            seen_until=datetime(2026, 1, 1, 0, minute, tzinfo=UTC),
        )
        for number, (minute, workers) in enumerate(kept)
    )


@many
@given(kept=machines, fields=orders, size=st.integers(1, 4), descending=st.booleans())
def test_pages_hold_each_row_once(kept, fields, size, descending):
    with transaction.atomic():
        keep(kept)
        key = attrgetter(*fields)
        ordered = sorted(MachineHeartbeat.objects.all(), key=key, reverse=descending)
        rows = MachineHeartbeat.objects.order_by(
            *(f"{'-' if descending else ''}{one}" for one in fields)
        )
        found, page = [], list(rows[:size])
        while page:
            found += page
            place = [getattr(page[-1], field) for field in fields]
            page = list(rows.filter(beyond(fields, place, descending=descending))[:size])
        assert found == ordered
        transaction.set_rollback(True)


@many
@given(kept=machines, fields=orders, number=st.integers(0, 8))
def test_a_row_lies_between_those_before_and_those_after_it(kept, fields, number):
    with transaction.atomic():
        keep(kept)
        ordered = list(MachineHeartbeat.objects.order_by(*fields))
        if ordered:
            number %= len(ordered)
            place = [getattr(ordered[number], field) for field in fields]
            after = MachineHeartbeat.objects.filter(beyond(fields, place)).order_by(*fields)
            before = MachineHeartbeat.objects.filter(beyond(fields, place, descending=True))
            assert [*before.order_by(*fields), ordered[number], *after] == ordered
        transaction.set_rollback(True)


@many
@given(kept=machines, fields=orders, size=st.integers(1, 4))
def test_all_rows_are_read_in_pages_of_one_size(kept, fields, size):
    with transaction.atomic():
        keep(kept)
        pages = list(pages_of(MachineHeartbeat.objects.all(), fields, size))
        assert [row for page in pages for row in page] == list(
            MachineHeartbeat.objects.order_by(*fields)
        )
        assert all(len(page) == size for page in pages[:-1])
        transaction.set_rollback(True)


def test_the_place_of_a_row_that_is_gone_is_a_place():
    keep([(0, 0), (0, 1)])
    hosts = MachineHeartbeat.objects.filter(beyond(("workers", "host"), (0, "m00")))
    assert [one.host for one in hosts] == ["m1"]


def test_an_index_is_given_a_bound_on_the_first_field():
    rows = MachineHeartbeat.objects.filter(beyond(("workers", "host"), (3, "a")))
    assert '"workers" >= 3' in str(rows.query)
    rows = MachineHeartbeat.objects.filter(beyond(("workers", "host"), (3, "a"), descending=True))
    assert '"workers" <= 3' in str(rows.query)
