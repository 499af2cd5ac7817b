"""Sum up the shards of runs that are going; a shard that is finished is read once a process."""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Q, QuerySet

from apps.evaluations.models import Run, Shard
from apps.evaluations.tally import Tally
from apps.kept import Kept
from apps.prepared import Prepared

COUNTS = ("passed_count", "failed_count", "errored_count", "unjudged_count")


class Sums(NamedTuple):
    """The sums over some shards of a run. counts: those of COUNTS."""

    counts: tuple[int, ...] = (0, 0, 0, 0)
    tally: Tally = Tally()

    def plus(self, shards: "Iterable[_Shard]") -> "Sums":
        counts, tally = self.counts, Tally()
        tally.add(self.tally)
        for shard in shards:
            counts = tuple(map(sum, zip(counts, shard.counts, strict=True)))
            tally.add(Tally.load(shard.tally))
        return Sums(counts, tally)


class _Shard(NamedTuple):
    number: int
    is_finished: bool
    tally: str
    counts: Sequence[int]


class _Finished(NamedTuple):
    """The sums of a run's shards before the one of this number, all of which are finished."""

    number: int = 0
    sums: Sums = Sums()


# Of most runs all shards but a few are either finished, and never change again, or not begun.
_FINISHED: Kept[_Finished] = Kept(2 * 1024 * 1024)
FINISHED_BYTES = 4_000


def _shards(wanted: Q) -> QuerySet[Shard, tuple[Any, ...]]:
    shards = Shard.objects.filter(wanted, done_count__gt=0).order_by("run", "number")
    return shards.values_list("run", "number", "finished_at", "tally", *COUNTS)


_FROM = Prepared(lambda run_id, number: _shards(Q(run_id=run_id, number__gte=number)))


def sum_shards(runs: Sequence[Run]) -> Mapping[UUID, Sums]:
    """Sum up what is stored of these runs, by their ids, in one query."""
    finished = {run.pk: _FINISHED.get(run.pk) or _Finished() for run in runs}
    rows: Iterable[tuple[Any, ...]]
    if len(runs) == 1:
        (run_id,) = finished
        rows = _FROM.rows(run_id=run_id, number=finished[run_id].number)
    else:
        wanted = (Q(run=pk, number__gte=one.number) for pk, one in finished.items())
        rows = _shards(reduce(or_, wanted)) if runs else ()
    shards: dict[UUID, list[_Shard]] = {pk: [] for pk in finished}
    for run_id, number, finished_at, tally, *counts in rows:
        shards[run_id].append(_Shard(number, finished_at is not None, tally, counts))
    return {pk: _sum(pk, one, shards[pk]) for pk, one in finished.items()}


def _sum(run_id: UUID, finished: _Finished, shards: Sequence[_Shard]) -> Sums:
    more = 0
    while more < len(shards) and shards[more][:2] == (finished.number + more, True):
        more += 1
    if more:
        finished = _Finished(finished.number + more, finished.sums.plus(shards[:more]))
        _FINISHED.put(run_id, finished, FINISHED_BYTES)
    return finished.sums.plus(shards[more:])
