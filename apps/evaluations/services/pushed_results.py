"""Take in results that were made elsewhere, and change them with their history kept."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.errors import Invalid, StateError, Unfit
from apps.evaluations.engine.columns import remove_columns_of, store_columns
from apps.evaluations.engine.store import state_of
from apps.evaluations.models import Result, ResultVersion, Run, Shard, key_of
from apps.evaluations.packing import Verdict, pack
from apps.evaluations.tally import Tally
from apps.strict_json import dump_json


def put_result(
    actor: Actor,
    run: Run,
    row_index: int,
    *,
    verdicts: Sequence[Verdict | None],
    sample: Mapping[str, Any] | None = None,
    repeat: int = 0,
) -> Result:
    """Store the result of a row, in the place of the one that is there, which becomes history.

    verdicts: one for each criterion, in their order. sample: the answer, where it is not the
    row's own. The run's state stays what it is; its counts and sums follow. Raises StateError
    while the run is going, Invalid for verdicts that are not one a criterion, and Unfit for a row
    or a repeat that the run does not have.
    """
    actor.require(Action.EDIT, run.account)
    with transaction.atomic():
        # Held until the end: what is summed here is summed by one at a time.
        run = Run.objects.present().select_for_update(of=("self",)).get(pk=run.pk)
        if not run.is_final:
            raise StateError("The run is still going: its results come from its workers.")
        criteria = list(
            run.evaluation.criteria.filter(version=run.criteria_version).order_by("position")
        )
        if len(verdicts) != len(criteria):
            message = f"There are {len(criteria)} criteria and {len(verdicts)} verdicts."
            raise Invalid(message, path="verdicts")
        shards = Shard.objects.filter(run=run, first_row__lte=row_index).order_by("-first_row")
        shard = shards.first()
        if shard is None or row_index >= shard.first_row + shard.row_count:
            raise Unfit(f"The run has no row {row_index}.", path="row_index")
        if not 0 <= repeat < run.repeats:
            raise Unfit(f"The run has no repeat {repeat} of a row.", path="repeat")
        now = int(timezone.now().timestamp())
        old = Result.objects.filter(pk=key_of(run.number, row_index, repeat)).first()
        new = Result(
            id=key_of(run.number, row_index, repeat),
            stored_at=now,
            state=state_of(
                [(one.value, one.passed) for one in verdicts if one is not None], is_faulty=False
            ),
            sample=None if sample is None else dump_json(sample),
            imported_id=old.imported_id if old else None,
            **pack(verdicts)._asdict(),
        )
        if old is not None:
            ResultVersion.of(old, now).save(force_insert=True)
        new.save(force_insert=old is None, force_update=old is not None)
        keys = [criterion.pk.hex for criterion in criteria]
        _count(shard, keys, old, new)
        shard.done_count += old is None
        shard.save()
        _count(run, keys, old, new)
        run.save(update_fields=[*COUNTERS, "tally"])
        remove_columns_of(run, shard, len(criteria))
        if shard.done_count == shard.row_count * run.repeats:
            store_columns(run, shard)
        record(
            actor,
            "result.put",
            run,
            before={"row": row_index, "state": old.state} if old else None,
            after={"row": row_index, "state": new.state},
        )
    return new


COUNTERS = [f"{state}_count" for state in Result.State.values]


def _count(place: Run | Shard, keys: Sequence[str], old: Result | None, new: Result) -> None:
    """Take a result out of the counts and sums of a run or a shard, and the new one in."""
    tally = Tally.load(place.tally)
    for result, sign in ((old, -1), (new, 1)):
        if result is None:
            continue
        counter = f"{result.state}_count"
        setattr(place, counter, getattr(place, counter) + sign)
        for key, one in zip(keys, result.read_verdicts(), strict=False):
            if one is not None:
                tally.judge(key, one.value, one.passed, one.is_errored, times=sign)
    place.tally = tally.dump()
