"""Try graders on a few rows at once, before anything is stored."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.errors import Invalid, LimitError
from apps.evaluations.engine.context import Models, equip, judging_addresses
from apps.evaluations.engine.grading import Bench
from apps.evaluations.engine.leases import database_now
from apps.evaluations.engine.slots import Lane, rebalance, release_all
from apps.evaluations.engine.source import Row
from apps.evaluations.engine.store import Judged, Spent
from apps.evaluations.engine.targets import Answer, complete_sample
from apps.evaluations.graders import build_grader
from apps.evaluations.graders.base import Grader, InvalidSetting, Mark
from apps.evaluations.graders.formula import BadFormula
from apps.evaluations.graders.multi import KIND as MULTI
from apps.evaluations.graders.multi import Multi, read_multi
from apps.evaluations.models import EndpointSlot
from apps.evaluations.services.endpoints import UnknownModel, find_judges
from apps.evaluations.services.evaluations import NewCriterion, check_criteria, check_judges
from apps.evaluations.templating import unknown_variables
from apps.ids import new_id

ROWS = 100  # at most, since somebody waits for the answer
PLACES = 8  # calls in flight at an endpoint, as far as its workers leave them free
PLACES_WAIT_SECONDS = 10
HOLD_SECONDS = 150  # longer than one call may take


@dataclass(frozen=True)
class Preview:
    """What the graders would say of one row: a mark per criterion, and what judging it took."""

    judged: Sequence[Judged]
    spent: Sequence[Spent]


def preview_criteria(
    actor: Actor,
    *,
    criteria: Sequence[NewCriterion],
    rows: Sequence[Mapping[str, Any]],
    item_schema: Any = None,
) -> list[Preview]:
    """Judge rows of the form {"item": {…}, "sample": {…}}; nothing is stored.

    Raises Invalid as create_evaluation does, or for too many rows, and LimitError while an
    endpoint's places are all taken.
    """
    account = actor.require(Action.EDIT)
    if len(rows) > ROWS:
        raise Invalid(f"A preview takes at most {ROWS} rows, not {len(rows)}.", path="rows")
    graders = check_criteria(criteria, item_schema or {}, has_sample=True)
    check_judges(account.pk, graders)
    return judge_rows(account.pk, graders, rows)


def judge_rows(
    account_id: UUID, graders: Sequence[Grader], rows: Sequence[Mapping[str, Any]]
) -> list[Preview]:
    """Judge rows by graders that are built already. Raises UnknownModel and LimitError."""
    addresses = find_judges(account_id, graders)
    models = Models(judging_addresses(addresses))
    bench = Bench([(new_id(), grader) for grader in graders])
    worker = new_id()
    try:
        lanes = {pk: Lane(_places(pk, worker, len(rows))) for pk in models.endpoints}
        return asyncio.run(_judge_all(bench, models, addresses, lanes, rows))
    finally:
        release_all(worker)


def _places(endpoint_id: UUID, worker: UUID, rows: int) -> int:
    """Places at an endpoint, held for as long as a preview may last."""
    began = time.monotonic()
    while True:
        granted = rebalance(endpoint_id, worker, wanted=min(PLACES, rows), committed=0)
        if granted:
            until = database_now() + timedelta(seconds=HOLD_SECONDS)
            EndpointSlot.objects.filter(worker=worker).update(lease_until=until)
            return granted
        if time.monotonic() - began > PLACES_WAIT_SECONDS:
            raise LimitError("The judge's endpoint is busy with runs: try again in a while.")
        time.sleep(0.5)


async def _judge_all(
    bench: Bench,
    models: Models,
    addresses: Mapping[str, Any],
    lanes: Mapping[UUID, Lane],
    rows: Sequence[Mapping[str, Any]],
) -> list[Preview]:
    models.open(lanes.__getitem__, "preview", lambda: False)
    equip(bench, models, addresses, _in_a_thread)
    try:
        return list(await asyncio.gather(*(_judge(bench, row) for row in rows)))
    finally:
        await models.close()


async def _in_a_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(call, *arguments)


async def _judge(bench: Bench, row: Mapping[str, Any]) -> Preview:
    sample = row.get("sample")
    answer = Answer(None if sample is None else complete_sample(sample))
    outcome = await bench.judge(Row(0, row.get("item") or {}, sample), 0, answer)
    return Preview(outcome.judged, outcome.spent)


@dataclass(frozen=True)
class Trial:
    """One grader, or a multi grader with its parts, tried on one sample.

    reward: the score, 0 where there is none. parts: the marks by name, of a plain grader under
    its own. fault: why the formula has no value.
    """

    reward: float
    parts: Mapping[str, Mark]
    spent: Sequence[Spent]
    seconds: float
    fault: str = ""


def try_grader(
    actor: Actor, *, settings: Mapping[str, Any], sample: Mapping[str, Any], item: Mapping[str, Any]
) -> Trial:
    """Run a grader, given as decoded JSON with its `type`, on one sample. Raises Invalid."""
    account = actor.require(Action.EDIT)
    checked = check_grader(actor, settings)
    multi = checked if isinstance(checked, Multi) else None
    graders = {"": checked} if isinstance(checked, Grader) else checked.graders
    began = time.monotonic()
    row = {"item": item, "sample": sample}
    [preview] = judge_rows(account.pk, list(graders.values()), [row])
    marks = {name: judged.mark for name, judged in zip(graders, preview.judged, strict=True)}
    seconds = time.monotonic() - began
    scores = {name: mark.value or 0.0 for name, mark in marks.items()}
    fault = ""
    if multi is None:
        [reward] = scores.values()
    elif any(mark.value is None for mark in marks.values()):
        reward = 0.0
    else:
        try:
            reward = multi.formula.value(scores)
        except BadFormula as error:
            reward, fault = 0.0, str(error)
    return Trial(reward, marks, preview.spent, seconds, fault)


def check_grader(actor: Actor, settings: Mapping[str, Any]) -> Grader | Multi:
    """The grader that these settings describe. Raises Invalid with the path of what is wrong."""
    account = actor.require(Action.EDIT)
    kind = settings.get("type")
    try:
        if kind == MULTI:
            multi = read_multi(settings, build_grader)
            graders = list(multi.graders.values())
        else:
            multi = None
            graders = [build_grader(kind if isinstance(kind, str) else "", settings)]
    except InvalidSetting as error:
        raise Invalid(error.message, path=error.field, code=error.code) from error
    for grader in graders:
        for template in grader.templates():
            if unknown := unknown_variables(template, None, True):
                raise Invalid(f"{{{{ {unknown[0]} }}}} is neither of item nor of sample.")
    try:
        find_judges(account.pk, graders)
    except UnknownModel as error:
        raise Invalid(str(error), path="model", code="model_not_found") from error
    return multi or graders[0]
