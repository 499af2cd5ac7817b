"""Judge a few rows at once, while somebody waits for the verdicts."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from apps.errors import LimitError
from apps.evaluations.engine.context import attach_models
from apps.evaluations.engine.grading import JudgingSession
from apps.evaluations.engine.store import Outcome
from apps.evaluations.targets import Answer, Recorded, Row
from apps.grading.graders.base import Grader
from apps.ids import new_id
from apps.inference.attached_models import Address, Models
from apps.inference.learned_quirks import remember
from apps.inference.limiters import EndpointLimiter
from apps.inference.models import EndpointSlot
from apps.inference.paces import tell_refusals, waits
from apps.inference.served_models import find_judges
from apps.inference.slots import rebalance, release_all
from apps.leases import database_now

SLOTS = 8  # calls in flight at an endpoint, as far as its workers leave them free
SLOTS_WAIT_SECONDS = 10
SECONDS = 120  # for all of a preview
HOLD_SECONDS = 150  # longer than that
AnsweredRow = tuple[Row, Answer]


@dataclass(frozen=True)
class Preview:
    """A row with its answer and the outcome of judging it; nothing of it is stored."""

    row: Row
    answer: Answer
    outcome: Outcome


def with_recorded_answer(
    index: int, item: dict[str, Any], sample: dict[str, Any] | None
) -> AnsweredRow:
    row = Row(index, item, sample)
    return row, Recorded().at_once(row, 0)


def judge_items(
    account_id: UUID, graders: Sequence[Grader], items: Sequence[AnsweredRow]
) -> list[Preview]:
    """Judge answered rows. Raises UnknownModel, and LimitError when it takes too long."""
    judges = find_judges(account_id, graders).get("judges", {})
    models = Models(judges.values())
    session = JudgingSession([(new_id(), grader) for grader in graders], explains=True)
    worker = new_id()
    limiters: dict[UUID, EndpointLimiter] = {}
    try:
        limiters |= {pk: EndpointLimiter(_slots(pk, worker, len(items))) for pk in models.endpoints}
        return asyncio.run(_judge_all(session, models, judges, limiters, items))
    except TimeoutError:
        raise LimitError(f"Judging took longer than {SECONDS} s: try fewer rows.") from None
    finally:
        release_all(worker)
        for pk, limiter in limiters.items():
            tell_refusals(pk, limiter.refusals)
        remember(models.take_learned())


def _slots(endpoint_id: UUID, worker: UUID, rows: int) -> int:
    """Take slots at an endpoint, for as long as a preview may last; return how many."""
    for wait in waits([endpoint_id]):
        if wait.until is not None:
            moment = f"{wait.until:%H:%M:%S} UTC"
            raise LimitError(f"Paused by the judge's model server until {moment}: {wait.words}")
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
