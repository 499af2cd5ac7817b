"""Try criteria on a few rows at once, before anything is stored."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.datasets.models import DatasetVersion
from apps.errors import Invalid, LimitError, Refusal, Unfit
from apps.evaluations.engine.context import attach_models
from apps.evaluations.engine.grading import JudgingSession
from apps.evaluations.engine.source import row_fault, rows_at
from apps.evaluations.engine.store import Outcome
from apps.evaluations.models import Evaluation, Run
from apps.evaluations.services.criteria import check_criteria_of
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.tally import Tally
from apps.evaluations.targets import Answer, Recorded, Row, Spent
from apps.evaluations.targets.recorded import Kept, KeptAnswers
from apps.grading.graders import build_grader
from apps.grading.graders.base import Grader, InvalidSetting, Mark
from apps.grading.graders.formula import BadFormula
from apps.grading.graders.multi import BAD_FORMULA, Multi, read_multi
from apps.grading.graders.multi import KIND as MULTI
from apps.grading.item_schemas import compile_schema
from apps.grading.templating import unknown_variables
from apps.ids import new_id
from apps.inference.attached_models import Address, Models
from apps.inference.limiters import EndpointLimiter
from apps.inference.models import EndpointSlot
from apps.inference.served_models import UnknownModel, find_judges
from apps.inference.slots import rebalance, release_all
from apps.leases import database_now
from apps.strict_json import parse_json

ROWS = 20  # at most, since somebody waits for the answer
SLOTS = 8  # calls in flight at an endpoint, as far as its workers leave them free
SLOTS_WAIT_SECONDS = 10
SECONDS = 120  # for all of a preview
HOLD_SECONDS = 150  # longer than that

AnsweredRow = tuple[Row, Answer]
# A run with its stored answers, a frozen version, or rows {"item": {…}, "sample": {…}}.
PreviewSource = Run | DatasetVersion | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Preview:
    """A row with its answer, and what the graders would say of it."""

    row: Row
    answer: Answer
    outcome: Outcome


def try_criteria(
    actor: Actor,
    evaluation: Evaluation,
    *,
    criteria: Sequence[NewCriterion],
    source: PreviewSource,
    count: int = ROWS,
) -> list[Preview]:
    """Judge the first rows of a source by criteria that are not the evaluation's yet.

    Nothing is stored. Raises Invalid as create_evaluation does, or for rows that the evaluation
    would not take, and LimitError while an endpoint's slots are all taken and when judging takes
    too long.
    """
    actor.require(Action.EDIT, evaluation.account)
    if not 1 <= count <= ROWS:
        raise Invalid(f"A preview takes 1 to {ROWS} rows, not {count}.", path="count")
    graders = check_criteria_of(evaluation, criteria)
    if not graders:
        raise Invalid("There is no criterion to grade by.", path="criteria")
    if isinstance(source, Run):
        items = _items_of_run(source, count)
    elif isinstance(source, DatasetVersion):
        cases = source.cases(0).values_list("item", "sample")[:count]
        items = [
            _recorded(index, parse_json(item), parse_json(sample) if sample else None)
            for index, (item, sample) in enumerate(cases)
        ]
    else:
        items = _items_given(evaluation, source[:count])
    if not items:
        raise Unfit("There are no rows to try the criteria on.", path="rows")
    return judge_items(evaluation.account_id, graders, items)


def _items_of_run(run: Run, count: int) -> list[AnsweredRow]:
    columns = ("row_index", "repeat", *Kept._fields)
    found = list(run.results.in_order().values_list(*columns)[:count])
    answers = {(index, repeat): Kept(*kept) for index, repeat, *kept in found}
    target = KeptAnswers(answers, in_rows=not run.model)
    rows = rows_at(run, (index for index, _ in answers))
    return [(rows[index], target.at_once(rows[index], repeat)) for index, repeat in answers]


def _items_given(evaluation: Evaluation, rows: Sequence[Mapping[str, Any]]) -> list[AnsweredRow]:
    schema = compile_schema(evaluation.item_schema)
    for index, row in enumerate(rows):
        if fault := row_fault(row, schema):
            raise Invalid(f"Row {index + 1}: {fault}", path=("rows", index))
    return [_recorded(index, row["item"], row.get("sample")) for index, row in enumerate(rows)]


def _recorded(index: int, item: dict[str, Any], sample: dict[str, Any] | None) -> AnsweredRow:
    row = Row(index, item, sample)
    return row, Recorded().at_once(row, 0)


def usage_of(previews: Iterable[Preview]) -> dict[str, list[int]]:
    """By model: calls, prompt, completion, total and cached tokens."""
    tally = Tally()
    for preview in previews:
        for spent in preview.outcome.spent:
            tally.use(spent.model, spent.counts)
    return tally.models


def judge_items(
    account_id: UUID, graders: Sequence[Grader], items: Sequence[AnsweredRow]
) -> list[Preview]:
    """Judge by graders that are built already. Raises UnknownModel and LimitError."""
    judges = find_judges(account_id, graders).get("judges", {})
    models = Models(judges.values())
    session = JudgingSession([(new_id(), grader) for grader in graders])
    worker = new_id()
    try:
        limiters = {pk: EndpointLimiter(_slots(pk, worker, len(items))) for pk in models.endpoints}
        return asyncio.run(_judge_all(session, models, judges, limiters, items))
    except TimeoutError:
        raise LimitError(f"Judging took longer than {SECONDS} s: try fewer rows.") from None
    finally:
        release_all(worker)


def _slots(endpoint_id: UUID, worker: UUID, rows: int) -> int:
    """Slots at an endpoint, held for as long as a preview may last."""
    began = time.monotonic()
    while True:
        granted = rebalance(endpoint_id, worker, wanted=min(SLOTS, rows), committed=0).slots
        if granted:
            until = database_now() + timedelta(seconds=HOLD_SECONDS)
            EndpointSlot.objects.filter(worker=worker).update(lease_until=until)
            return granted
        if time.monotonic() - began > SLOTS_WAIT_SECONDS:
            raise LimitError("The judge's endpoint is busy with runs: try again in a while.")
        time.sleep(0.5)


async def _judge_all(
    session: JudgingSession,
    models: Models,
    judges: Mapping[str, Address],
    limiters: Mapping[UUID, EndpointLimiter],
    items: Sequence[AnsweredRow],
) -> list[Preview]:
    models.open(limiters.__getitem__, "preview", lambda: False)
    attach_models(session, models, judges, _in_a_thread)
    try:
        async with asyncio.timeout(SECONDS):
            return list(await asyncio.gather(*(_judge(session, *item) for item in items)))
    finally:
        await models.close()


async def _in_a_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(call, *arguments)


async def _judge(session: JudgingSession, row: Row, answer: Answer) -> Preview:
    return Preview(row, answer, await session.judge(row, 0, answer))


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
    """Run a grader, given as decoded JSON with its `type`, on one sample. Raises Invalid.

    A formula that cannot be read is a fault of the trial, as is one without a value.
    """
    account = actor.require(Action.EDIT)
    try:
        checked = check_grader(actor, settings)
    except Refusal as error:
        if error.code != BAD_FORMULA:
            raise
        return Trial(0.0, {}, (), 0.0, error.messages[0])
    multi = checked if isinstance(checked, Multi) else None
    graders = {"": checked} if isinstance(checked, Grader) else checked.graders
    began = time.monotonic()
    tried = _recorded(0, {**item}, {**sample})
    [preview] = judge_items(account.pk, list(graders.values()), [tried])
    outcome = preview.outcome
    marks = {name: judged.mark for name, judged in zip(graders, outcome.judged, strict=True)}
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
    return Trial(reward, marks, outcome.spent, seconds, fault)


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
        raise Invalid(error.message, path=error.path, code=error.code) from error
    for grader in graders:
        for template in grader.templates():
            if unknown := unknown_variables(template, None, True):
                raise Invalid(f"{{{{ {unknown[0]} }}}} is neither of item nor of sample.")
    try:
        find_judges(account.pk, graders)
    except UnknownModel as error:
        names = [*multi.graders] if multi else []
        position = error.position
        part = ("graders", names[position]) if names and position is not None else ()
        raise Unfit(str(error), path=(*part, "model"), code="model_not_found") from error
    return multi or graders[0]
