"""Write results and scores: once, in bulk, and only while the shard is still ours."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from apps.bulk import insert_rows
from apps.evaluations.costs import MICRO, NO_PRICES, PriceList
from apps.evaluations.engine.columns import store_columns
from apps.evaluations.engine.spending import add_to_month
from apps.evaluations.models import Result, Run, Shard, key_of
from apps.evaluations.packing import Packed, Verdict, pack, pack_plain
from apps.evaluations.tally import Tally
from apps.evaluations.targets import Spent
from apps.grading.graders.base import Fault, Mark
from apps.leases import uuid_writer

ROWS_AT_ONCE = 5_000  # of a transaction: a longer one would keep other writers waiting
SPENT_MAX = 10**12  # micros of one shard: sums of more would leave a 64-bit column


# Plain texts: a driver looks twice at members of an enumeration.
PASSED, FAILED = Result.State.PASSED.value, Result.State.FAILED.value
ERRORED, UNJUDGED = Result.State.ERRORED.value, Result.State.UNJUDGED.value


def state_of(verdicts: Iterable[tuple[float | None, bool | None]], *, is_faulty: bool) -> str:
    """Return the state of a result whose criteria gave these values and verdicts.

    errored beats failed beats passed; without any verdict the item is not judged. is_faulty:
    there is no answer to judge.
    """
    if is_faulty:
        return ERRORED
    state = UNJUDGED
    for value, passed in verdicts:
        if value is None:
            return ERRORED
        if passed is False:
            state = FAILED
        elif passed and state is UNJUDGED:
            state = PASSED
    return state


class Judged(NamedTuple):
    """A criterion's mark, and what a judge was asked for it, as JSON.

    keeps_evidence: False where the grader makes the same evidence again from item and answer.
    """

    criterion: UUID
    mark: Mark
    exchange: str | None = None
    keeps_evidence: bool = True


class Outcome(NamedTuple):
    """The result of one item: its answer's traces and a mark per criterion, in their order.

    A named tuple, as are the others of which there is one for each item: a frozen dataclass takes
    three times as long to make.
    """

    row_index: int
    repeat: int
    sample: str | None
    exchange: str | None
    fault: Fault | None
    judged: Sequence[Judged]
    spent: Sequence[Spent]

    @property
    def state(self) -> str:
        """The state that its fault and its marks make; see `state_of`."""
        marks = [(one.mark.value, one.mark.passed) for one in self.judged]
        return state_of(marks, is_faulty=self.fault is not None)

    def errored_by(self, fault: Fault) -> "Outcome":
        """The same item with nothing to show but a fault; what was spent stays spent."""
        lost = Mark(None, None, error=fault)
        judged = [Judged(one.criterion, lost) for one in self.judged]
        return self._replace(sample=None, exchange=None, fault=fault, judged=judged)


@dataclass(frozen=True)
class Progress:
    """The stored part of a shard: results, how many in each state, the sums, the cost in picos."""

    done: int
    states: Counter[str]
    tally: Tally
    picos: int


class HeldShard:
    """A claimed shard as the writer knows it."""

    def __init__(self, shard: Shard, run: Run, tally: Tally, prices: PriceList = NO_PRICES) -> None:
        self.shard = shard
        self.run = run
        self.prices = prices
        states = Counter({state: getattr(shard, f"{state}_count") for state in Result.State.values})
        picos = 0 if prices.is_free else prices.known(tally)
        self.progress = Progress(shard.done_count, states, tally, picos)
        self.is_lost = False

    @property
    def size(self) -> int:
        return self.shard.row_count * self.run.repeats

    @property
    def is_open(self) -> bool:
        """Tell whether it is ours, with something left to store."""
        return not self.is_lost and self.progress.done < self.size


@dataclass(frozen=True)
class Batch:
    """Outcomes of one shard that go into one transaction together."""

    held: HeldShard
    outcomes: Sequence[Outcome]

    @property
    def rows(self) -> int:
        return len(self.outcomes)

    @cached_property
    def states(self) -> list[str]:
        """The state of each outcome."""
        return [outcome.state for outcome in self.outcomes]


def transactions(pairs: Iterable[tuple[HeldShard, Outcome]]) -> Iterator[list[Batch]]:
    """Group outcomes into transactions of at most ROWS_AT_ONCE rows."""
    groups: dict[int, tuple[HeldShard, list[Outcome]]] = {}
    for held, outcome in pairs:
        groups.setdefault(id(held), (held, []))[1].append(outcome)
    open_batches: list[Batch] = []
    rows = 0
    for held, outcomes in groups.values():
        for start in range(0, len(outcomes), ROWS_AT_ONCE):
            batch = Batch(held, outcomes[start : start + ROWS_AT_ONCE])
            # Two batches of one shard must not share a transaction: the counter tells them apart.
            if open_batches and (rows + batch.rows > ROWS_AT_ONCE or open_batches[-1].held is held):
                yield open_batches
                open_batches, rows = [], 0
            open_batches.append(batch)
            rows += batch.rows
    if open_batches:
        yield open_batches


def store(batches: Iterable[Batch]) -> None:
    """Store batches of different shards in one transaction.

    A shard whose lease passed to another, or whose run ended, is marked lost and nothing of it is
    written. After a database error the same batches may be stored again: what a lost connection
    had committed is recognised by the shard's own counter.
    """
    reached = [(batch, _advance(batch)) for batch in batches if not batch.held.is_lost]
    if not reached:
        return
    parameter = uuid_writer()
    with transaction.atomic():
        kept = _fence([batch.held for batch, _ in reached])
        ours, fresh = [], []
        spent: Counter[UUID] = Counter()
        for batch, progress in reached:
            token, done = kept.get(batch.held.shard.pk, (None, 0))
            # The fence: each claim has a token of its own, so that one that differs, or is gone,
            # tells that the shard is another's by now, whatever the clocks say.
            if token != parameter(batch.held.shard.lease_token):
                batch.held.is_lost = True
                continue
            ours.append((batch, progress))
            if done != progress.done:
                fresh.append((batch, progress))
                _write_counters(batch.held, progress)
                spent[batch.held.shard.account_id] += progress.picos - batch.held.progress.picos
            # else: a connection broke after its commit, and this is the second try
        _insert(fresh)
        # Sorted: the rows of two accounts are locked in the same order by every worker. They come
        # last, since other workers of the account wait for them until the commit.
        for account_id, picos in sorted(spent.items()):
            if picos:
                add_to_month(account_id, picos, stripe=batch.held.shard.worker)
    # Only now: until the commit is known, a second try must begin at the same counters.
    for batch, progress in ours:
        batch.held.progress = progress


def store_spent(held: HeldShard, spent: Sequence[Spent]) -> None:
    """Count calls that were made for items of a shard that is let go before they had an outcome."""
    tally = deepcopy(held.progress.tally)
    for one in spent:
        tally.use(one.model, one.counts, judging=one.judging)
    picos = 0 if held.prices.is_free else held.prices.known(tally)
    progress = replace(held.progress, tally=tally, picos=picos)
    with transaction.atomic():
        token, _ = _fence([held]).get(held.shard.pk, (None, 0))
        if token != uuid_writer()(held.shard.lease_token):
            return
        changes = {
            "tally": tally.dump(),
            "spent_micros": min(round(picos / MICRO), SPENT_MAX),
        }
        Shard.objects.filter(pk=held.shard.pk).update(**changes)
        if more := picos - held.progress.picos:
            add_to_month(held.shard.account_id, more, stripe=held.shard.worker)
    held.progress = progress


def _fence(held: list[HeldShard]) -> dict[UUID, tuple[Any, int]]:
    """Lock the shards that are at work in a running run; return their tokens and done_counts.

    The locks hold until the commit. On PostgreSQL the run's row is locked against the statement
    that would end it, so that nothing is added to a run that has ended, but not against other
    workers who store too; SQLite has one writer at a time anyway. Whoever locks several shards or
    runs does so in the order of the run's id and then the shard's: in another order two could
    wait for each other.
    """
    shard, run = Shard._meta.db_table, Run._meta.db_table
    marks = ", ".join(["%s"] * len(held))
    query = (
        f"SELECT s.id, s.lease_token, s.done_count FROM {shard} s JOIN {run} r ON r.id = s.run_id"  # noqa: S608  names of our own tables
        f" WHERE s.id IN ({marks}) AND s.finished_at IS NULL AND r.state = 'running'"
    )
    if connection.features.has_select_for_update:
        query += " ORDER BY r.id, s.id FOR UPDATE OF s FOR SHARE OF r"
    parameter = uuid_writer()
    with connection.cursor() as cursor:
        cursor.execute(query, [parameter(one.shard.pk) for one in held])
        rows = cursor.fetchall()
    return {pk if isinstance(pk, UUID) else UUID(pk): (token, done) for pk, token, done in rows}


RESULT_COLUMNS = (
    "id", "stored_at", "state", "sample", "exchange", "error_code", "error_message",
    *Packed._fields,
)  # fmt: skip


def _insert(fresh: list[tuple[Batch, Progress]]) -> None:
    """Insert without model objects: they would take most of a worker's time."""
    now = int(timezone.now().timestamp())
    results: list[tuple[Any, ...]] = []
    for batch, _ in fresh:
        base = key_of(batch.held.run.number, 0)
        for outcome, state in zip(batch.outcomes, batch.states, strict=True):
            row_index, repeat, sample, exchange, fault, judged, _ = outcome
            code, message = (fault.code, _text(fault.message)) if fault else ("", "")
            results.append(
                (
                    base + key_of(0, row_index, repeat), now, state, sample, exchange,
                    code, message, *_pack(judged, (code, message) if fault else None),
                )
            )  # fmt: skip
    if results:
        insert_rows(Result, RESULT_COLUMNS, results)
    for batch, progress in fresh:
        if progress.done == batch.held.size:
            store_columns(batch.held.run, batch.held.shard)


def _pack(judged: Sequence[Judged], own_fault: tuple[str, str] | None) -> Packed:
    """Pack marks, the quicker way where value and verdict are all there is to keep of them."""
    plain = []
    for _, mark, exchange, keeps_evidence in judged:
        value, passed, evidence, error, notes = mark
        if error is not None or notes is not None or exchange is not None:
            break
        if keeps_evidence and evidence:
            break
        plain.append((value, passed))
    else:
        return pack_plain(plain)
    return pack([_verdict(one) for one in judged], own_fault)


def _verdict(judged: Judged) -> Verdict:
    mark, error = judged.mark, judged.mark.error
    return Verdict(
        mark.value,
        mark.passed,
        error.code if error else "",
        _text(error.message) if error else "",
        _text(mark.evidence) if judged.keeps_evidence else "",
        judged.exchange,
        mark.notes,
    )


def _text(text: str) -> str:
    """PostgreSQL's text takes no NUL, and evidence quotes what models say."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in text else text


def _advance(batch: Batch) -> Progress:
    """Compute where the shard's counters stand once this batch is stored."""
    before = batch.held.progress
    states, tally = Counter(before.states), deepcopy(before.tally)
    states.update(batch.states)
    # Every outcome of a run is judged by the same criteria in the same order.
    keys = [one.criterion.hex for one in batch.outcomes[0].judged]
    for outcome in batch.outcomes:
        for key, one in zip(keys, outcome.judged, strict=True):
            value = one.mark.value
            tally.judge(key, value, one.mark.passed, value is None)
        for spent in outcome.spent:
            tally.use(spent.model, spent.counts, judging=spent.judging)
    prices = batch.held.prices
    picos = 0 if prices.is_free else prices.known(tally)
    return Progress(before.done + len(batch.outcomes), states, tally, picos)


def _write_counters(held: HeldShard, progress: Progress) -> None:
    changes: dict[str, Any] = {
        "done_count": progress.done,
        "tally": progress.tally.dump(),
        "spent_micros": min(round(progress.picos / MICRO), SPENT_MAX),
        # Progress: whatever died over the shard before, this item did not kill its worker.
        "attempts": 0,
        "suspect_position": None,
        **{f"{state}_count": progress.states[state] for state in Result.State.values},
    }
    if progress.done == held.size:
        # The lease goes with the last result: nobody has to let go of the shard.
        changes |= {
            "finished_at": timezone.now(),
            "lease_token": None,
            "lease_until": None,
            "worker": None,
        }
    Shard.objects.filter(pk=held.shard.pk).update(**changes)
