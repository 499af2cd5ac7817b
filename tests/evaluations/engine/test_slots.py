"""Sharing an endpoint: nobody goes without who could have, and nobody ever has too much."""

import asyncio
import random
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from apps.evaluations.engine.heartbeats import renew_leases
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
def test_a_heartbeat_that_comes_too_late_does_not_take_slots_back(endpoint):
    ask(endpoint, ANNE, 10)
    endpoint.slots.update(lease_until=database_now() - timedelta(seconds=1))
    assert ask(endpoint, BERT, 10) == 10
    renew_leases(ANNE, [], [endpoint.pk])
    alive = endpoint.slots.filter(lease_until__gte=database_now())
    assert dict(alive.values_list("worker", "granted")) == {BERT: 10}


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


class LaneMachine(RuleBasedStateMachine):
    """A limiter with callers of three runs that come, go, give up while they wait, and are cut."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.limiter = EndpointLimiter(0)
        self.tasks: list[tuple[str, asyncio.Task[None]]] = []  # in the order they came
        self.holders: list[str] = []
        # How often others were let in while a run waited.
        self.passed_by: dict[str, Counter[str]] = {}

    def teardown(self) -> None:
        for _, task in self.tasks:
            task.cancel()
        self.step()
        self.loop.close()

    def step(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))
        waiting = {run for run, task in self.tasks if not task.done()}
        for run, task in self.tasks:
            if task.done() and not task.cancelled():
                self.holders.append(run)
                self.passed_by.pop(run, None)
                for other in waiting - {run}:
                    self.passed_by.setdefault(other, Counter())[run] += 1
        self.tasks = [(run, task) for run, task in self.tasks if not task.done()]
        for run in self.passed_by.keys() - {run for run, _ in self.tasks}:
            del self.passed_by[run]

    @rule(run=st.sampled_from("abc"))
    def come(self, run: str) -> None:
        self.tasks.append((run, self.loop.create_task(self.limiter.acquire(run))))
        self.step()

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        self.holders.remove(data.draw(st.sampled_from(self.holders)))
        self.limiter.release()
        self.step()

    @rule(granted=st.integers(0, 4))
    def resize(self, granted: int) -> None:
        # One at a time, so that the order in which callers are let in can be seen.
        while self.limiter.granted < granted:
            self.limiter.resize(self.limiter.granted + 1)
            self.step()
        self.limiter.resize(granted)
        self.step()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        _, task = data.draw(st.sampled_from(self.tasks))
        task.cancel()
        self.step()

    @precondition(lambda self: self.tasks and self.holders)
    @rule(data=st.data())
    def give_up_when_just_let_in(self, data: st.DataObject) -> None:
        run, task = data.draw(st.sampled_from(self.tasks))
        self.holders.pop()
        self.limiter.release()
        task.cancel()
        self.passed_by.pop(run, None)  # its turn had come
        self.step()

    @rule()
    def dismiss(self) -> None:
        self.limiter.dismiss()
        self.step()
        assert not self.tasks

    @invariant()
    def every_place_is_accounted_for(self) -> None:
        assert self.limiter.in_use == len(self.holders)
        assert self.limiter.demand == len(self.holders) + len(self.tasks)
        assert self.limiter.committed >= self.limiter.in_use

    @invariant()
    def nobody_waits_for_a_place_that_is_free(self) -> None:
        assert not self.tasks or self.limiter.in_use >= self.limiter.granted

    @invariant()
    def no_run_is_passed_by_twice_by_the_same(self) -> None:
        assert all(count <= 1 for others in self.passed_by.values() for count in others.values())


LaneMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_lane = LaneMachine.TestCase


def test_a_smaller_grant_takes_effect_as_calls_end():
    async def scene() -> None:
        limiter = EndpointLimiter(2)
        await limiter.acquire("a")
        await limiter.acquire("a")
        third = asyncio.ensure_future(limiter.acquire("a"))
        limiter.resize(1)
        limiter.release()
        await asyncio.sleep(0)
        assert not third.done()
        limiter.release()
        await third
        assert limiter.in_use == 1

    asyncio.run(scene())
