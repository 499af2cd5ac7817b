"""Import evaluations and finished runs that were saved elsewhere, with results and verdicts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from django.db import models, transaction
from django.utils import timezone

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.datasets.models import NAME_LENGTH, File
from apps.datasets.stored_files import store_file
from apps.errors import StateError, Unfit
from apps.evaluations.engine.plan import GRADING_ROWS, SHARD_BYTES
from apps.evaluations.models import (
    MOST_REPEATS,
    Criterion,
    Evaluation,
    Result,
    Run,
    Shard,
    key_of,
    new_number,
)
from apps.evaluations.models.evaluations import EvaluationQuerySet
from apps.evaluations.models.runs import RunQuerySet
from apps.evaluations.packing import Verdict, pack
from apps.evaluations.services.runs import INLINE_PURPOSE
from apps.evaluations.services.saved_history import (
    SavedEvaluation,
    SavedResult,
    SavedRun,
    SavedScore,
)
from apps.evaluations.tally import ERRORED, FAILED, PASSED, Tally
from apps.grading.item_schemas import BadSchema, check_item_schema
from apps.ids import new_id
from apps.strict_json import dump_json

IMPORTED_PURPOSE = "imported"
PAGE = 500
# So long a run may take to come in before it is removed for having been given up.
PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Imported:
    """An imported run, and what of its results does not fit it.

    counts: the results that were found, by state; what was saved of its counts stands on the run.
    unknown_criteria: keys in verdicts, which were left out, that no criterion of the run has.
    """

    run: Run
    counts: Mapping[str, int]
    unknown_criteria: Sequence[str]

    @property
    def result_count(self) -> int:
        return sum(self.counts.values())


def find_imported(
    rows: EvaluationQuerySet | RunQuerySet, actor: Actor, imported_id: str, own_id: UUID | None
) -> Any:
    """Find the row with this imported id, or this key, in the actor's account; None without one."""
    account = actor.require(Action.EDIT)
    known = models.Q(imported_id=imported_id) | models.Q(pk=own_id)
    return rows.present().filter(known, account=account).first()


@transaction.atomic
def import_evaluation(
    actor: Actor, saved: SavedEvaluation, *, dialect: str
) -> tuple[Evaluation, list[str]]:
    """Store an evaluation as it was, unchecked; return it, and what could not be imported.

    dialect: the one that saved it, which shows it from now on.
    """
    account = actor.require(Action.EDIT)
    lost = []
    try:
        schema = check_item_schema(saved.item_schema)
    except BadSchema as error:
        schema = "{}"
        lost.append(f"its schema of items, which would refuse everything: {error}")
    gone = Evaluation.objects.filter(account=account, imported_id=saved.imported_id)
    gone.exclude(deleted_at=None).update(imported_id=None)
    evaluation = Evaluation.objects.create(
        account=account,
        imported_id=saved.imported_id,
        name=saved.name[:NAME_LENGTH],
        created_at=saved.created_at,
        updated_at=saved.created_at,
        metadata=dump_json(saved.metadata),
        item_schema=schema,
        has_sample=saved.has_sample,
        dialect=dialect,
        spec=dump_json(saved.spec),
        created_by=actor.user,
    )
    Criterion.objects.bulk_create(
        Criterion(
            id=new_id(),
            evaluation=evaluation,
            version=1,
            position=position,
            key=criterion.key,
            kind=criterion.kind,
            name=criterion.name,
            settings=dump_json(criterion.settings),
        )
        for position, criterion in enumerate(saved.criteria)
    )
    record(actor, "evaluation.import", evaluation, after={"id": saved.imported_id})
    return evaluation, lost


def import_run(
    actor: Actor,
    evaluation: Evaluation,
    saved: SavedRun,
    results: Iterable[SavedResult],
    *,
    dialect: str,
) -> Imported:
    """Store a run that is over, unseen until it is complete.

    results: by row_index; those with an equal one are its repeats. Iterated twice. dialect: the
    one that saved it, which shows it from now on.
    """
    account = actor.require(Action.EDIT)
    gone = Run.objects.filter(account=account, imported_id=saved.imported_id)
    # Deleted, alone or with its evaluation, or left half-way by an import that died.
    gone.update(imported_id=None, deleted_at=timezone.now())
    shards: list[Shard] = []
    file = _store_rows(actor, saved, results, shards)
    run = Run(
        number=new_number(),
        account=account,
        evaluation=evaluation,
        criteria_version=_version_of(evaluation, saved),
        imported_id=saved.imported_id,
        name=saved.name[:NAME_LENGTH],
        metadata=dump_json(saved.metadata),
        model=saved.model[:300],
        source_file=file,
        dialect=dialect,
        spec=dump_json(saved.spec),
        state=saved.state,
        error_code=saved.error_code,
        error_message=saved.error_message,
        created_at=saved.created_at,
        started_at=saved.created_at,
        finished_at=saved.created_at,
        updated_at=saved.created_at,
        created_by=actor.user,
        row_count=sum(shard.row_count for shard in shards),
        # In days to come: no list shows it, and nothing removes it yet.
        deleted_at=timezone.now() + PATIENCE,
    )
    run.save(force_insert=True)
    try:
        return _fill(actor, run, saved, results, shards)
    except BaseException:
        now = timezone.now()
        Run.objects.filter(pk=run.pk).update(deleted_at=now, imported_id=None)
        if file is not None:
            File.objects.filter(pk=file.pk).update(deleted_at=now)
        raise


def _version_of(evaluation: Evaluation, saved: SavedRun) -> int:
    """Return the version of the evaluation's criteria that the run was judged by."""
    same = evaluation.criteria.filter(key__in=list(saved.criteria)).order_by("-version")
    return same.values_list("version", flat=True).first() or evaluation.criteria_version


def _store_rows(
    actor: Actor, saved: SavedRun, results: Iterable[SavedResult], shards: list[Shard]
) -> File | None:
    """Store the rows as a file, and list their shards; indexes may leave gaps between shards."""
    offset = 0

    def lines() -> Iterator[bytes]:
        nonlocal offset
        for index, row in _rows(saved, results):
            line = dump_json(row).encode() + b"\n"
            shard = shards[-1] if shards else None
            if (
                shard is None
                or shard.first_row + shard.row_count != index
                or shard.row_count >= GRADING_ROWS
                or offset + len(line) - shard.start > SHARD_BYTES
            ):
                shard = Shard(first_row=index, row_count=0, start=offset, number=len(shards))
                shards.append(shard)
            offset += len(line)
            shard.row_count, shard.stop = shard.row_count + 1, offset
            yield line

    purpose = INLINE_PURPOSE if saved.shows_rows else IMPORTED_PURPOSE
    file = store_file(actor, filename="rows.jsonl", purpose=purpose, chunks=lines(), is_inline=True)
    if shards:
        return file
    file.delete()
    return None


def _rows(
    saved: SavedRun, results: Iterable[SavedResult]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield rows by index: those saved with the run, then those that only results hold."""
    yield from enumerate(saved.rows)
    last = len(saved.rows) - 1
    for result in results:
        if result.row_index > last:
            last = result.row_index
            answer = {"sample": result.row_sample} if result.row_sample is not None else {}
            yield last, {"item": result.item, **answer}


def _fill(
    actor: Actor,
    run: Run,
    saved: SavedRun,
    results: Iterable[SavedResult],
    shards: Sequence[Shard],
) -> Imported:
    criteria = run.evaluation.criteria.filter(version=run.criteria_version)
    keys = {criterion.key: criterion.pk for criterion in criteria.order_by("position")}
    tally, unknown = Tally(), set()
    counts = dict.fromkeys(Result.State.values, 0)
    repeats = 1
    held: list[Result] = []
    sums = [Tally() for _ in shards]
    place = 0
    for row_index, group in groupby(results, key=lambda result: result.row_index):
        # Both are in the order of rows, and every result's row is in a shard.
        while row_index >= shards[place].first_row + shards[place].row_count:
            place += 1
        for repeat, one in enumerate(group):
            repeats = max(repeats, repeat + 1)
            if repeats > MOST_REPEATS:
                raise Unfit(f"Row {one.row_index} has more than {MOST_REPEATS} results.")
            counts[one.state] += 1
            _count(shards[place], one.state)
            held.append(_result(run, one, repeat, [*keys]))
            for score in one.scores:
                if (pk := keys.get(score.key)) is None:
                    unknown.add(score.key)
                else:
                    sums[place].judge(pk.hex, score.value, score.passed, score.value is None)
            if len(held) == PAGE:
                _store(held)
    _store(held)
    for shard, of_shard in zip(shards, sums, strict=True):
        shard.account_id, shard.run, shard.finished_at = run.account_id, run, run.created_at
        shard.tally = of_shard.dump()
        tally.add(of_shard)
    Shard.objects.bulk_create(shards, batch_size=PAGE)
    _prefer_saved_sums(tally, saved, keys)
    final = saved.counts if saved.counts is not None else counts
    numbers = {f"{state}_count": final.get(state, 0) for state in counts}
    total = max(sum(numbers.values()), run.row_count * repeats)
    with transaction.atomic():
        record(
            actor,
            "run.import",
            run,
            after={"id": saved.imported_id, "results": sum(counts.values())},
        )
        # The one statement that shows it.
        shown = Run.objects.filter(pk=run.pk, imported_id=saved.imported_id).update(
            **numbers, total_count=total, repeats=repeats, tally=tally.dump(), deleted_at=None
        )
        if not shown:
            raise StateError("Another import brings in the same run.")
    run.refresh_from_db()
    return Imported(run, counts, sorted(unknown))


def _count(shard: Shard, state: str) -> None:
    """Count a result on its shard, by which results in a state are found."""
    shard.done_count += 1
    counter = f"{state}_count"
    setattr(shard, counter, getattr(shard, counter) + 1)


def _prefer_saved_sums(tally: Tally, saved: SavedRun, keys: Mapping[str, UUID]) -> None:
    """Replace the counts of results, which may be incomplete, by those that were saved."""
    for key, sums in saved.criteria.items():
        if key in keys:
            kept = tally.criteria.setdefault(keys[key].hex, [0, 0, 0, 0, 0.0, 0.0])
            kept[PASSED], kept[FAILED], kept[ERRORED] = sums
    for model, used in saved.usage.items():
        tally.use(model, used)


def _result(run: Run, saved: SavedResult, repeat: int, keys: Sequence[str]) -> Result:
    """Make the row of a saved result; keys: of the criteria, in their order."""
    scores = {score.key: _verdict(score) for score in saved.scores}
    own = (saved.error_code, saved.error_message) if saved.error_code else None
    return Result(
        id=key_of(run.number, saved.row_index, repeat),
        stored_at=int(saved.created_at.timestamp()),
        state=saved.state,
        sample=None if saved.sample is None else dump_json(saved.sample),
        exchange=None if saved.exchange is None else dump_json(saved.exchange),
        error_code=saved.error_code,
        error_message=saved.error_message,
        imported_id=saved.imported_id,
        **pack([scores.get(key) for key in keys], own)._asdict(),
    )


def _verdict(saved: SavedScore) -> Verdict:
    return Verdict(
        saved.value,
        saved.passed,
        saved.error_code,
        saved.error_message,
        saved.evidence,
        None if saved.exchange is None else dump_json(saved.exchange),
        saved.notes,
    )


def _store(results: list[Result]) -> None:
    with transaction.atomic():
        Result.objects.bulk_create(results, batch_size=PAGE)
    results.clear()
