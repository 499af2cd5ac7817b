"""The sums of a run that is going are those of all its shards, whatever a process has kept."""

import random

import pytest
from django.db.models import F
from django.utils import timezone

from apps.evaluations.models import Run, Shard
from apps.evaluations.reports.live_sums import COUNTS, sum_shards
from apps.evaluations.tally import Tally
from tests.factories import make_actor, make_run

pytestmark = pytest.mark.django_db

SHARDS = 12


def made(actor) -> Run:
    run = make_run(actor)
    Run.objects.filter(pk=run.pk).update(state=Run.State.RUNNING)
    Shard.objects.bulk_create(
        Shard(
            account_id=run.account_id,
            run=run,
            number=number,
            first_row=number * 10,
            row_count=10,
            start=0,
            stop=0,
        )
        for number in range(SHARDS)
    )
    return Run.objects.get(pk=run.pk)


def go_on(run: Run, chance: random.Random) -> None:
    """Store a result of a shard that is not finished, which may finish it."""
    open_shards = list(run.shards.filter(finished_at=None).order_by("number")[:4])
    if not open_shards:
        return
    shard = chance.choice(open_shards)
    tally = Tally.load(shard.tally)
    tally.judge("c", chance.random(), True, errored=False)
    tally.use("m", (1, 2, 3, 5, 0))
    Shard.objects.filter(pk=shard.pk).update(
        **{chance.choice(COUNTS): F("passed_count") + 1},
        done_count=F("done_count") + 1,
        tally=tally.dump(),
        finished_at=timezone.now() if chance.random() < 0.5 else None,
    )


def expected(run: Run) -> tuple[tuple[int, ...], int, float]:
    shards = list(run.shards.all())
    counts = tuple(sum(getattr(shard, name) for shard in shards) for name in COUNTS)
    tallies = [Tally.load(shard.tally) for shard in shards]
    scored = sum(tally.criteria.get("c", [0] * 6)[3] for tally in tallies)
    total = sum(tally.criteria.get("c", [0] * 6)[4] for tally in tallies)
    return counts, scored, pytest.approx(total)


def test_sums_follow_every_step_and_are_read_in_one_query(django_assert_num_queries):
    actor, chance = make_actor(), random.Random(3)
    runs = [made(actor), made(actor)]
    assert sum_shards([]) == {}
    for step in range(60):
        for run in runs:
            go_on(run, chance)
        asked = runs if step % 3 else runs[:1]
        with django_assert_num_queries(1):
            sums = sum_shards(asked)
        assert list(sums) == [run.pk for run in asked]
        for run in asked:
            found = sums[run.pk]
            scored = found.tally.criteria.get("c", [0] * 6)
            assert (found.counts, scored[3], scored[4]) == expected(run)


def test_finished_shards_are_not_read_again():
    run = made(make_actor())
    run.shards.filter(number__lt=5).update(passed_count=3, done_count=3, finished_at=timezone.now())
    before = sum_shards([run])[run.pk]
    assert before.counts == (15, 0, 0, 0)
    run.shards.filter(number__lt=5).update(passed_count=0)  # which nobody does
    assert sum_shards([run])[run.pk] == before
