"""Sharing an endpoint: nobody goes without who could have, and nobody ever has too much."""

import random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.inference.limiters import EndpointLimiter
from apps.inference.models import EndpointSlot
from apps.inference.slots import NOTHING, drop_expired, fair_share, rebalance, release_all
from apps.leases import database_now
from tests.factories import make_actor, make_endpoint

WISHES = st.dictionaries(st.uuids(), st.integers(0, 300), min_size=1, max_size=12)
ANNE, BERT, CLEO = (UUID(int=number) for number in range(1, 4))


@given(total=st.integers(0, 500), wanted=WISHES)
def test_what_is_shared_is_all_there_is_or_all_that_is_wanted(total, wanted):
    shares = fair_share(total, wanted)
    assert shares.keys() == wanted.keys()
    assert sum(shares.values()) == min(total, sum(wanted.values()))
    assert all(0 <= shares[one] <= wanted[one] for one in wanted)


@given(total=st.integers(0, 500), wanted=WISHES)
def test_who_gets_less_than_wanted_gets_no_less_than_anybody_else(total, wanted):
    shares = fair_share(total, wanted)
    disappointed = [shares[one] for one in wanted if shares[one] < wanted[one]]
    if disappointed:
        assert max(shares.values()) - min(disappointed) <= 1


@pytest.fixture
def endpoint():
    return make_endpoint(make_actor(), "http://127.0.0.1:9/v1", concurrency=10)


def ask(endpoint, worker, wanted, committed=0):
    return rebalance(endpoint.pk, worker, wanted=wanted, committed=committed).slots


def granted(endpoint):
    return dict(endpoint.slots.values_list("worker", "granted"))


@pytest.mark.django_db
def test_a_sole_claimer_has_all_it_wants_at_once(endpoint):
    assert ask(endpoint, ANNE, 100) == 10


@pytest.mark.django_db
def test_a_newcomer_waits_until_the_holder_has_agreed(endpoint):
    ask(endpoint, ANNE, 100)
    assert ask(endpoint, BERT, 100) == 0
    # Told to keep to 5, with 10 calls still in flight.
    assert ask(endpoint, ANNE, 100, committed=10) == 5
    assert ask(endpoint, BERT, 100) == 0
    assert ask(endpoint, ANNE, 100, committed=7) == 5
    assert ask(endpoint, BERT, 100) == 3
    assert ask(endpoint, ANNE, 100, committed=5) == 5
    assert ask(endpoint, BERT, 100, committed=3) == 5


@pytest.mark.django_db
def test_what_one_does_not_want_others_get(endpoint):
    assert ask(endpoint, ANNE, 2) == 2
    assert ask(endpoint, BERT, 100) == 8
    assert ask(endpoint, ANNE, 0) == 0
    assert granted(endpoint) == {BERT: 8}
    assert ask(endpoint, BERT, 100, committed=8) == 10


@pytest.mark.django_db
def test_what_is_still_in_use_is_not_given_back(endpoint):
    ask(endpoint, ANNE, 10)
    assert ask(endpoint, ANNE, 0, committed=4) == 0
    assert ask(endpoint, BERT, 10) == 6


@pytest.mark.django_db
def test_slots_of_the_dead_are_free_when_their_lease_is_out_and_go_with_the_sweep(endpoint):
    ask(endpoint, ANNE, 10)
    endpoint.slots.update(lease_until=database_now())
    assert ask(endpoint, BERT, 10) == 10
    drop_expired(database_now())
    assert granted(endpoint) == {BERT: 10}


@pytest.mark.django_db
def test_who_does_not_give_up_yet_keeps_what_it_wants_of_what_it_has(endpoint):
    def keep(wanted, committed):
        return rebalance(
            endpoint.pk, ANNE, wanted=wanted, committed=committed, gives_up=False
        ).slots

    assert ask(endpoint, ANNE, 100) == 10
    assert ask(endpoint, BERT, 100) == 0
    assert keep(100, 10) == 10
    # What it does not want itself is not kept: the others wait for it.
    assert keep(7, 7) == 7
    assert ask(endpoint, BERT, 100) == 3
    # A wish that grows again is no reason to have more than the share, beyond what it has.
    assert keep(100, 7) == 7


@pytest.mark.django_db
def test_others_wait_only_while_they_have_less_than_their_share(endpoint):
    def others_wait(wanted, committed):
        return rebalance(endpoint.pk, ANNE, wanted=wanted, committed=committed).others_wait

    assert not others_wait(100, 0)
    assert ask(endpoint, BERT, 2) == 0
    assert others_wait(100, 10)
    assert ask(endpoint, BERT, 2) == 0
    assert others_wait(100, 8)
    assert ask(endpoint, BERT, 2) == 2
    # Two are all that it wants.
    assert not others_wait(100, 8)


@pytest.mark.django_db
def test_an_endpoint_that_is_gone_has_no_slots(endpoint):
    pk = endpoint.pk
    endpoint.delete()
    assert rebalance(pk, ANNE, wanted=1, committed=0) == NOTHING


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(5))
def test_grants_never_pass_the_limit_whatever_three_workers_do(endpoint, seed):
    dice = random.Random(seed)
    limiters = {worker: EndpointLimiter(0) for worker in (ANNE, BERT, CLEO)}
    for _ in range(150):
        worker, limiter = dice.choice(list(limiters.items()))
        # As much as it may, between two looks at the table.
        limiter.in_use = dice.randint(0, limiter.committed)
        wanted = dice.choice((0, 1, 3, 8, 40))
        limiter.granted = ask(endpoint, worker, wanted, limiter.committed)
        held = granted(endpoint)
        assert sum(held.values()) <= endpoint.concurrency
        assert all(limiter.committed <= held.get(one, 0) for one, limiter in limiters.items())
        if dice.random() < 0.02:
            release_all(worker)
            limiters[worker] = EndpointLimiter(0)
    assert EndpointSlot.objects.count() <= 3


@pytest.mark.django_db
def test_who_keeps_what_it_has_reads_once_and_writes_and_locks_nothing(
    endpoint, django_assert_num_queries
):
    ask(endpoint, ANNE, 100)
    with django_assert_num_queries(1) as asked:
        assert ask(endpoint, ANNE, 90, committed=10) == 10
    assert "UPDATE" not in asked[0]["sql"]


@pytest.mark.django_db
def test_who_gives_up_writes_its_own_row_alone(endpoint, django_assert_num_queries):
    ask(endpoint, ANNE, 100)
    ask(endpoint, BERT, 100)
    with django_assert_num_queries(2) as asked:
        assert ask(endpoint, ANNE, 100, committed=5) == 5
    assert not any("FOR UPDATE" in one["sql"] for one in asked)


@pytest.mark.django_db
def test_who_was_late_to_renew_shrinks_to_what_others_left(endpoint):
    ask(endpoint, ANNE, 100)
    endpoint.slots.update(lease_until=database_now())
    assert ask(endpoint, BERT, 7) == 7
    assert ask(endpoint, ANNE, 100, committed=10) == 3
    assert granted(endpoint) == {ANNE: 3, BERT: 7}
