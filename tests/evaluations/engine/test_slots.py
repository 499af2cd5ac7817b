"""Places at an endpoint: shared fairly, never more than there are, and taken in turns."""

import asyncio
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from apps.evaluations.engine.slots import Lane, fair_share, rebalance, release_all
from apps.evaluations.models import EndpointSlot, ModelEndpoint
from apps.evaluations.services.endpoints import add_endpoint
from apps.ids import new_id
from tests.factories import make_actor

WORKERS = [UUID(int=number) for number in range(1, 6)]
wishes = st.dictionaries(st.sampled_from(WORKERS), st.integers(0, 100), min_size=1)


@given(st.integers(0, 100), wishes)
def test_a_fair_share_gives_all_there_is_and_nobody_more_than_wanted(
    total: int, wanted: dict[UUID, int]
) -> None:
    shares = fair_share(total, wanted)
    assert all(shares[worker] <= wanted[worker] for worker in wanted)
    assert sum(shares.values()) == min(total, sum(wanted.values()))


@given(st.integers(0, 100), wishes)
def test_who_got_less_than_wanted_got_no_less_than_anyone_but_one(
    total: int, wanted: dict[UUID, int]
) -> None:
    shares = fair_share(total, wanted)
    for worker, share in shares.items():
        if share < wanted[worker]:
            assert share >= max(shares.values()) - 1


@pytest.fixture
def endpoint() -> ModelEndpoint:
    return add_endpoint(make_actor(), base_url="http://127.0.0.1:9/v1", concurrency=10)


def granted(endpoint: ModelEndpoint) -> int:
    return sum(EndpointSlot.objects.filter(endpoint=endpoint).values_list("granted", flat=True))


@pytest.mark.django_db
def test_a_sole_worker_has_all_places_at_once(endpoint: ModelEndpoint) -> None:
    assert rebalance(endpoint.pk, new_id(), wanted=100, committed=0) == 10
    assert rebalance(endpoint.pk, new_id(), wanted=100, committed=0) == 0


@pytest.mark.django_db
def test_a_place_passes_to_another_only_once_its_holder_is_committed_to_less(
    endpoint: ModelEndpoint,
) -> None:
    first, second = new_id(), new_id()
    assert rebalance(endpoint.pk, first, wanted=100, committed=0) == 10
    assert rebalance(endpoint.pk, second, wanted=100, committed=0) == 0
    assert rebalance(endpoint.pk, first, wanted=100, committed=10) == 5
    assert rebalance(endpoint.pk, second, wanted=100, committed=0) == 0
    assert rebalance(endpoint.pk, first, wanted=100, committed=5) == 5
    assert rebalance(endpoint.pk, second, wanted=100, committed=0) == 5
    assert granted(endpoint) == 10


@pytest.mark.django_db
def test_what_a_dead_worker_held_is_free_when_its_lease_ends(
    endpoint: ModelEndpoint, settings: Settings
) -> None:
    settings.ENGINE_LEASE_SECONDS = -1
    rebalance(endpoint.pk, new_id(), wanted=100, committed=0)
    settings.ENGINE_LEASE_SECONDS = 20
    assert rebalance(endpoint.pk, new_id(), wanted=100, committed=0) == 10


@pytest.mark.django_db
def test_a_worker_that_signs_off_leaves_nothing_behind(endpoint: ModelEndpoint) -> None:
    worker = new_id()
    rebalance(endpoint.pk, worker, wanted=100, committed=0)
    release_all(worker)
    assert granted(endpoint) == 0


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=30),
)
def test_never_more_than_granted_are_in_flight_and_everyone_gets_a_turn(
    places: int, calls: list[tuple[str, int]]
) -> None:
    async def work() -> int:
        lane = Lane(places)
        most = 0
        done = 0

        async def call(turn: str, steps: int) -> None:
            nonlocal most, done
            await lane.acquire(turn)
            most = max(most, lane.in_use)
            for _ in range(steps):
                await asyncio.sleep(0)
            lane.release()
            done += 1

        await asyncio.gather(*(call(turn, steps) for turn, steps in calls))
        assert most <= places
        assert lane.is_idle
        return done

    assert asyncio.run(work()) == len(calls)


def test_those_who_wait_take_turns_by_run() -> None:
    async def work() -> list[str]:
        lane, order = Lane(1), []

        async def call(turn: str) -> None:
            await lane.acquire(turn)
            order.append(turn)
            await asyncio.sleep(0)
            lane.release()

        await asyncio.gather(*(call(turn) for turn in "aaaab"))
        return order

    assert "".join(asyncio.run(work())).index("b") <= 2


def test_a_caller_who_is_cancelled_while_waiting_gives_its_place_on() -> None:
    async def work() -> None:
        lane = Lane(1)
        await lane.acquire("a")
        waiting = asyncio.create_task(lane.acquire("b"))
        await asyncio.sleep(0)
        waiting.cancel()
        lane.release()
        await asyncio.wait_for(lane.acquire("c"), 1)
        assert lane.in_use == 1

    asyncio.run(work())
