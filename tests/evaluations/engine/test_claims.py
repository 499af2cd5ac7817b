"""Claiming: each shard by one worker, fairly, under a lease, and the suspects alone."""

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction

from apps.clients import Usage
from apps.evaluations.engine import claims as claims_module
from apps.evaluations.engine import plan as plan_module
from apps.evaluations.engine import slot_shares as slot_shares_module
from apps.evaluations.engine.heartbeats import busy_workers, renew_leases
from apps.evaluations.engine.store import Batch, store
from apps.evaluations.engine.sweep import sweep_runs
from apps.evaluations.models import Run, Shard, WorkerHeartbeat
from apps.evaluations.services.runs import cancel_run
from apps.evaluations.targets import Spent
from apps.ids import new_id
from apps.inference.models import EndpointSlot
from apps.inference.slots import rebalance
from apps.leases import database_now, lease_end
from tests.evaluations.engine.shards import (
    claim,
    coordinator,
    errored,
    hold,
    let_lease_run_out,
    outcome,
    outcomes,
    plan,
    poll,
)
from tests.factories import ask, make_actor, make_endpoint, make_run
from tests.patience import patience

pytestmark = pytest.mark.django_db


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(plan_module, "GRADING_ROWS", 2)
    monkeypatch.setattr(plan_module, "ASKING_ROWS", 2)
    # A slow machine claims all of them in one poll too.
    monkeypatch.setattr(claims_module, "CLAIM_SECONDS", patience(5))


@pytest.fixture
def run(small_shards) -> Run:
    """Three shards of two rows."""
    return plan(make_run(source=6))


def numbers(assignments):
    return [claim.shard.number for claim in assignments.claims]


def test_a_worker_claims_while_it_has_room(run):
    assert numbers(poll(coordinator())) == [0, 1, 2]
    assert numbers(poll(coordinator(), capacity={run.pk: 3})) == []


def test_a_worker_claims_no_more_than_it_has_room_for(run):
    assert numbers(poll(coordinator(), capacity={run.pk: 3})) == [0, 1]
    assert numbers(poll(coordinator(), spare=1)) == [2]


def test_rows_that_only_need_grading_wait_where_many_do_already(run):
    assert numbers(poll(coordinator(), spare=0)) == []
    assert poll(coordinator(), spare=0).has_more


def test_no_other_worker_gets_what_is_held(run):
    first, second = poll(coordinator(), capacity={run.pk: 3}), poll(coordinator())
    assert numbers(first) == [0, 1]
    assert numbers(second) == [2]
    assert not second.has_more


def test_a_draining_worker_claims_nothing(run):
    assert not poll(coordinator(), may_claim=False).claims


def test_nothing_is_claimed_of_a_run_that_is_not_at_work(run):
    shard = run.shards.first()
    now = database_now()
    cancel_run(make_actor(account=run.account), run)
    assert not Shard.objects.claim(shard, new_id(), now, lease_end(now))
    assert not poll(coordinator()).claims


@pytest.mark.django_db(transaction=True)
def test_workers_that_race_claim_each_shard_once_and_read_its_own_rows(small_shards):
    run = plan(make_run(source=200))
    claimed = []

    def race():
        one = coordinator()
        while found := poll(one, capacity={run.pk: 20}).claims:
            claimed.extend(found)
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience(20))
    assert sorted(claim.shard.number for claim in claimed) == list(range(100))
    kept = dict(run.shards.values_list("pk", "lease_token"))
    assert {claim.shard.pk: claim.shard.lease_token for claim in claimed} == kept
    rows = {one.shard.number: [row.index for row, _ in one.todo] for one in claimed}
    assert rows == {number: [2 * number, 2 * number + 1] for number in range(100)}
    assert {one.shard.attempts for one in claimed} == {1}


def test_a_shard_is_claimed_once_although_two_found_it(run):
    now = database_now()
    found = [Shard.objects.next_of(run.pk, now, []) for _ in range(2)]
    assert found[0] == found[1]
    taken = [Shard.objects.claim(shard, new_id(), now, lease_end(now)) for shard in found]
    assert taken == [True, False]


@pytest.mark.django_db(transaction=True)
def test_who_waits_for_anothers_claim_gets_nothing(run):
    """On PostgreSQL the second UPDATE waits for the first to commit and must look again."""
    now = database_now()
    shard, again = (Shard.objects.next_of(run.pk, now, []) for _ in range(2))
    second = []

    def claim_too():
        second.append(Shard.objects.claim(again, new_id(), now, lease_end(now)))
        connection.close()

    thread = threading.Thread(target=claim_too)
    with transaction.atomic():
        assert Shard.objects.claim(shard, new_id(), now, lease_end(now))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(patience(5))
    assert second == [False]
    assert Shard.objects.get(pk=shard.pk).lease_token == shard.lease_token


def test_a_holder_who_was_late_to_prolong_its_lease_keeps_its_shard(run):
    held = poll(holder := coordinator(), capacity={run.pk: 1}).claims[0].shard
    let_lease_run_out(held)
    now = database_now() + timedelta(milliseconds=1)
    found = Shard.objects.next_of(run.pk, now, [])
    assert found == held
    renew_leases(holder.worker, [held.pk], [])
    assert not Shard.objects.claim(found, new_id(), now, lease_end(now))


def test_a_heartbeat_prolongs_what_is_at_work_and_nothing_else(run):
    holder = coordinator()
    first, second = poll(holder, capacity={run.pk: 3}).claims
    soon = database_now() + timedelta(seconds=1)
    Shard.objects.update(lease_until=soon)
    renew_leases(holder.worker, [first.shard.pk], [])
    leases = dict(Shard.objects.values_list("pk", "lease_until"))
    assert leases[first.shard.pk] > soon
    assert leases[second.shard.pk] == soon


def test_claims_that_a_poll_lost_on_its_way_are_free_when_their_lease_is_out(run, monkeypatch):
    lost = coordinator()
    monkeypatch.setattr(lost._slots, "share", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        poll(lost)
    renew_leases(lost.worker, [], [])
    Shard.objects.update(lease_until=database_now())
    assert numbers(poll(coordinator())) == [0, 1, 2]


def test_slots_that_a_poll_lost_on_its_way_go_back(small_shards, monkeypatch):
    actor = make_actor()
    make_endpoint(actor, "http://127.0.0.1:9/v1", concurrency=10)
    plan(make_run(actor, target=ask("m")))
    lost = coordinator()
    found = poll(lost)
    assert list(found.grants.values()) == [6]
    # The loop never heard of it, and has no limiter there.
    renew_leases(lost.worker, [], [])
    again = poll(lost, may_claim=False)
    assert again.left == set(found.grants)
    assert not EndpointSlot.objects.exists()


def test_a_heartbeat_prolongs_the_slots_in_use_and_no_others(small_shards):
    actor = make_actor()
    endpoint = make_endpoint(actor, "http://127.0.0.1:9/v1")
    plan(make_run(actor, target=ask("m")))
    holder = coordinator()
    poll(holder)
    soon = database_now() + timedelta(seconds=1)
    EndpointSlot.objects.update(lease_until=soon)
    renew_leases(holder.worker, [], [])
    assert EndpointSlot.objects.get().lease_until == soon
    renew_leases(holder.worker, [], [endpoint.pk])
    assert EndpointSlot.objects.get().lease_until > soon


def test_a_heartbeat_that_comes_too_late_does_not_take_slots_back():
    endpoint = make_endpoint(make_actor(), "http://127.0.0.1:9/v1", concurrency=10)
    late, other = new_id(), new_id()
    assert rebalance(endpoint.pk, late, wanted=10, committed=0).slots == 10
    endpoint.slots.update(lease_until=database_now() - timedelta(seconds=1))
    assert rebalance(endpoint.pk, other, wanted=10, committed=0).slots == 10
    renew_leases(late, [], [endpoint.pk])
    alive = endpoint.slots.filter(lease_until__gte=database_now())
    assert dict(alive.values_list("worker", "granted")) == {other: 10}


def test_slots_are_asked_for_only_when_there_may_be_more_to_have(small_shards, monkeypatch):
    monkeypatch.setattr(slot_shares_module, "REBALANCE_SECONDS", 100)
    monkeypatch.setattr(slot_shares_module, "HANDOVER_SECONDS", 100)
    monkeypatch.setattr(slot_shares_module, "YIELD_SLOTS_AFTER_SECONDS", 0)
    pk = make_endpoint(make_actor(), "http://127.0.0.1:9/v1", concurrency=10).pk
    holder, newcomer = coordinator(), coordinator()

    def granted(coordinator, wanted, committed):
        return poll(coordinator, slots={pk: (wanted, committed)}).grants.get(pk)

    assert granted(holder, 4, 0) == 4
    assert granted(holder, 4, 4) is None
    # Its wish had been granted in full, and has grown.
    assert granted(holder, 40, 4) == 10
    assert granted(holder, 50, 10) is None
    assert granted(newcomer, 40, 0) == 0
    assert granted(newcomer, 40, 0) is None
    monkeypatch.setattr(slot_shares_module, "REBALANCE_SECONDS", 0)
    assert granted(holder, 50, 10) == 5
    monkeypatch.setattr(slot_shares_module, "REBALANCE_SECONDS", 100)
    # Who is told to shrink says soon when it has, and who has nothing asks again soon.
    monkeypatch.setattr(slot_shares_module, "HANDOVER_SECONDS", 0)
    assert granted(holder, 50, 10) is None
    assert granted(holder, 50, 5) == 5
    assert granted(newcomer, 40, 0) == 5
    assert granted(newcomer, 40, 5) is None
    # What is not wanted any more goes back at once.
    monkeypatch.setattr(slot_shares_module, "HANDOVER_SECONDS", 100)
    assert granted(holder, 0, 2) == 0
    assert poll(holder, slots={pk: (0, 0)}).left == {pk}


def test_who_is_refused_slots_rings_and_so_does_who_gives_some_up(small_shards, monkeypatch):
    monkeypatch.setattr(slot_shares_module, "REBALANCE_SECONDS", 100)
    monkeypatch.setattr(slot_shares_module, "HANDOVER_SECONDS", 100)
    monkeypatch.setattr(slot_shares_module, "YIELD_SLOTS_AFTER_SECONDS", 0)
    actor = make_actor()
    pk = make_endpoint(actor, "http://127.0.0.1:9/v1", concurrency=10).pk
    plan(make_run(actor, source=200, target=ask("m")))
    rung = []
    monkeypatch.setattr(slot_shares_module.bells, "ring", lambda: rung.append(1))
    holder, newcomer = coordinator(), coordinator()
    assert len(poll(holder).claims) > 1

    def granted(**state):
        return poll(holder, may_claim=False, **state).grants

    assert granted(slots={pk: (50, 10)}) == {}
    for _ in range(2):
        assert not poll(newcomer).claims
    assert len(rung) == 1
    # A bell is a reason to look, however short ago that was.
    assert granted(slots={pk: (50, 10)}, was_rung=True) == {pk: 8}
    assert len(rung) == 1
    assert granted(slots={pk: (50, 8)}, was_rung=True) == {pk: 8}
    assert len(rung) == 2
    assert poll(newcomer, was_rung=True).grants == {pk: 2}


def test_slots_are_given_up_only_to_who_has_waited_for_them(small_shards, monkeypatch):
    monkeypatch.setattr(slot_shares_module, "REBALANCE_SECONDS", 0)
    monkeypatch.setattr(slot_shares_module, "HANDOVER_SECONDS", 0)
    monkeypatch.setattr(slot_shares_module, "YIELD_SLOTS_AFTER_SECONDS", 100)
    pk = make_endpoint(make_actor(), "http://127.0.0.1:9/v1", concurrency=10).pk
    holder, newcomer = coordinator(), coordinator()
    assert poll(holder, slots={pk: (50, 0)}).grants == {pk: 10}
    assert poll(newcomer, slots={pk: (50, 0)}).grants == {pk: 0}
    assert poll(holder, slots={pk: (50, 10)}).grants == {pk: 10}
    # What it does not want itself goes at once.
    assert poll(holder, slots={pk: (7, 7)}).grants == {pk: 7}
    assert poll(newcomer, slots={pk: (50, 0)}).grants == {pk: 3}
    monkeypatch.setattr(slot_shares_module, "YIELD_SLOTS_AFTER_SECONDS", 0)
    assert poll(holder, slots={pk: (50, 7)}).grants == {pk: 5}


def test_shards_are_left_to_the_workers_that_have_all_the_slots(small_shards):
    actor = make_actor()
    make_endpoint(actor, "http://127.0.0.1:9/v1", concurrency=2)
    plan(make_run(actor, source=200, target=ask("m")))
    holder, newcomer = coordinator(), coordinator()
    assert len(poll(holder).claims) > 1
    found = poll(newcomer)
    assert (found.claims, found.is_waiting, found.has_more) == ([], True, True)
    holder.leave()
    assert poll(coordinator()).claims


def test_a_worker_does_not_claim_what_it_still_holds(run):
    holder = coordinator()
    held = poll(holder, capacity={run.pk: 1}).claims[0].shard
    let_lease_run_out(held)
    assert numbers(poll(holder, held=[held.pk])) == [1, 2]


def test_what_is_released_is_free_at_once_and_was_no_attempt(run):
    holder = coordinator()
    holder.release([(hold(claim), ()) for claim in poll(holder).claims])
    assert not Shard.objects.filter(attempts__gt=0).exists()
    assert numbers(poll(coordinator())) == [0, 1, 2]


def test_a_release_leaves_alone_what_has_passed_to_another(run):
    late = coordinator()
    [taken] = poll(late, capacity={run.pk: 1}).claims[:1]
    shard = taken.shard
    let_lease_run_out(shard)
    successor = claim(run)
    late.release([(hold(taken), [Spent("m", 1, Usage())])])
    assert Shard.objects.get(pk=shard.pk).tally == shard.tally
    assert Shard.objects.get(pk=shard.pk).lease_token == successor.shard.lease_token


def test_who_leaves_is_no_longer_busy(run):
    one = coordinator()
    renew_leases(one.worker, [], [])
    assert busy_workers() == 1
    one.leave()
    assert busy_workers() == 0


def test_the_sweep_rings_for_free_shards_and_plans_and_forgets_old_heartbeats(run):
    assert sweep_runs()
    held = poll(coordinator()).claims
    assert not sweep_runs()
    let_lease_run_out(held[0].shard)
    assert sweep_runs()
    poll(coordinator())
    make_run()
    assert sweep_runs()
    renew_leases(coordinator().worker, [], [])
    WorkerHeartbeat.objects.update(seen_until=database_now() - timedelta(hours=2))
    sweep_runs()
    assert not WorkerHeartbeat.objects.exists()


def test_the_account_with_the_least_in_work_comes_first(small_shards):
    big = plan(make_run(source=40))
    poll(coordinator(), capacity={big.pk: 7})
    small = plan(make_run(source=4))
    first = poll(coordinator()).claims[0]
    assert first.shard.run_id == small.pk


def test_of_one_account_the_oldest_run_comes_first_and_the_next_is_not_kept_waiting(small_shards):
    actor = make_actor()
    old, new = (plan(make_run(actor, source=40)) for _ in range(2))
    claimed = poll(coordinator(), spare=3).claims
    assert [claim.shard.run_id for claim in claimed] == [old.pk, new.pk]


def test_a_poll_ends_in_time_however_much_there_is(small_shards, monkeypatch):
    monkeypatch.setattr(claims_module, "CLAIM_SECONDS", 0)
    plan(make_run(source=40))
    found = poll(coordinator())
    assert len(found.claims) == 1
    assert found.has_more


def fails_with(run, text):
    assert not poll(coordinator()).claims
    run.refresh_from_db()
    assert (run.state, run.error_code) == (Run.State.FAILED, "run_unworkable")
    assert text in run.error_message


def test_a_run_over_a_disabled_endpoint_fails_with_the_reason(small_shards):
    actor = make_actor()
    endpoint = make_endpoint(actor, "http://127.0.0.1:9/v1")
    run = plan(make_run(actor, target=ask("m")))
    endpoint.disabled_at = database_now()
    endpoint.save()
    fails_with(run, "The endpoint of the model 'm' is gone or disabled.")


def test_a_run_over_an_endpoint_with_an_impossible_key_fails_with_the_reason(small_shards):
    actor = make_actor()
    make_endpoint(actor, "http://127.0.0.1:9/v1", api_key="two words")
    run = plan(make_run(actor, target=ask("m")))
    fails_with(run, "printable ASCII")


def test_a_run_whose_source_lost_rows_fails_with_the_reason(run):
    run.source_file.chunks.all().delete()
    fails_with(run, "The source has lost some of rows 0 to 1")


def test_odd_data_fails_its_run_and_no_other(run):
    other = plan(make_run(source=2))
    run.evaluation.criteria.update(settings="[]")
    assert {claim.shard.run_id for claim in poll(coordinator()).claims} == {other.pk}
    run.refresh_from_db()
    assert (run.state, run.error_code) == (Run.State.FAILED, "run_unworkable")


def test_a_database_that_goes_away_fails_no_run(run, monkeypatch):
    def away(*_):
        raise OperationalError("gone away")

    monkeypatch.setattr(claims_module, "rows_by_shard", away)
    with pytest.raises(OperationalError):
        poll(coordinator())
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING


def test_a_shard_that_nobody_ever_gets_ahead_with_ends_its_run(run):
    Shard.objects.filter(number=0).update(attempts=9)
    fails_with(run, "Every worker that took rows 0 to 1 died of it.")


def claimed_in_vain(times, **filters):
    Shard.objects.filter(**filters).update(attempts=times)


def test_the_third_claim_is_like_the_first_and_the_fourth_is_alone(run):
    claimed_in_vain(2, number=0)
    assert not poll(coordinator(), capacity={run.pk: 1}).claims[0].isolated
    Shard.objects.update(lease_until=None)
    one, *others = poll(coordinator()).claims
    assert one.isolated
    assert not others


def test_a_worker_that_holds_something_leaves_a_suspect_and_claims_no_more(run):
    other = plan(make_run(source=6))
    claimed_in_vain(3, run=run, number=1)
    busy = coordinator()
    first = poll(busy, capacity={other.pk: 1})
    assert 1 not in numbers(first)
    held = [claim.shard.pk for claim in first.claims]
    assert not poll(busy, held=held).claims
    assert poll(busy, held=held).has_more
    # Through with what it held, it takes the suspect before anything else.
    (suspect,) = poll(busy).claims
    assert (suspect.shard.run_id, suspect.shard.number, suspect.isolated) == (run.pk, 1, True)


def test_a_worker_that_plans_leaves_a_suspect(run):
    claimed_in_vain(3, number=0)
    assert not poll(coordinator(), is_free=False).claims


def test_nothing_is_planned_beside_a_suspect(run):
    claimed_in_vain(3, number=0)
    make_run()
    wary = coordinator()
    planning = poll(wary, may_plan=True)
    assert (planning.claims, planning.plan is None) == ([], False)
    make_run()
    found = poll(wary, may_plan=True)
    assert found.claims[0].isolated
    assert found.plan is None


def test_a_suspect_that_another_takes_keeps_nobody_waiting(run):
    claimed_in_vain(3, number=0)
    wary = coordinator()
    poll(wary, is_free=False)
    claim(run)
    assert numbers(poll(wary)) == [1, 2]


def test_the_item_that_was_noted_makes_its_shard_a_suspect_at_the_next_claim(run):
    one = coordinator()
    claimed_in_vain(3, number=0)
    (suspect,) = poll(one).claims
    one.suspect(suspect.shard, 1)
    let_lease_run_out(suspect.shard)
    again = claim(run)
    assert (again.isolated, again.shard.suspect_position) == (True, 1)


def test_progress_clears_attempts_and_suspicion(run):
    claimed_in_vain(3, number=0)
    one = coordinator()
    (suspect,) = poll(one).claims
    one.suspect(suspect.shard, 0)
    store([Batch(hold(suspect), [outcome(suspect, 0, fault=errored("worker_died"))])])
    shard = Shard.objects.get(number=0)
    assert (shard.attempts, shard.suspect_position) == (0, None)


def test_who_is_stopped_in_good_order_accuses_nobody(run):
    claimed_in_vain(3, number=0)
    one = coordinator()
    (suspect,) = poll(one).claims
    one.suspect(suspect.shard, 0)
    one.release([(hold(suspect), ())])
    shard = Shard.objects.get(number=0)
    assert (shard.attempts, shard.suspect_position) == (3, None)


def test_a_late_worker_accuses_nobody(run):
    late = coordinator()
    shard = poll(late, capacity={run.pk: 1}).claims[0].shard
    let_lease_run_out(shard)
    claim(run)
    late.suspect(shard, 0)
    assert Shard.objects.get(pk=shard.pk).suspect_position is None


def test_a_finished_shard_is_never_claimed(run):
    claimed = claim(run)
    store([Batch(hold(claimed), outcomes(claimed))])
    Shard.objects.filter(finished_at=None).update(lease_until=None)
    assert numbers(poll(coordinator())) == [1, 2]
