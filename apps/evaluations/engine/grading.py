"""Judge one answer by every criterion of its run, in each of the shapes that graders have."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard, TypeVar
from uuid import UUID

from apps.clients import BUDGET, CallFailed, Stopped, Usage
from apps.clients.quirks import format_named, formats_among
from apps.clients.replies import vectors_of
from apps.evaluations.engine.store import Judged, Outcome
from apps.evaluations.targets import Answer, Row, Spent, Unfinished
from apps.grading.graders.base import BatchGrader, Fault, Grader, JudgeGrader, Mark, PlainGrader
from apps.grading.samples import Sample
from apps.inference.attached_models import Judge
from apps.strict_json import dump_json

log = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_BATCH, LARGEST_BATCH = 8, 256
QUICK_SECONDS = 2.0
LARGEST_VALUE = 1e100  # squares of a billion of them can still be summed
BATCH_SECONDS = 0.1  # the longest that a sample waits for others, once its turn has come


@dataclass
class Asker:
    """The `ModelCaller` that a grader is given for one sample; keeps a record of what it asked.

    judges: by the name that graders use, chat and embedding models alike.
    """

    judges: dict[str, Judge]
    spent: list[Spent] = field(default_factory=list)
    exchange: dict[str, Any] | None = None
    refused: Fault | None = None  # why a call was not made that the run had no budget for
    doubted: CallFailed | None = None  # it says that the server lacks a form of reply

    def refused_formats(self, model: str) -> Collection[str]:
        judge = self.judges[model]
        return formats_among(judge.lessons.of(judge.upstream))

    async def chat(
        self, request: dict[str, Any], *, prompted: bool = False, keeps_format: bool = False
    ) -> dict[str, Any]:
        model = request["model"]
        judge = self.judges[model]
        preset = replace(judge.preset, system_prompt="") if prompted else judge.preset
        sent = preset.apply({**request, "model": judge.upstream})
        self.exchange = {"input": sent["messages"], "params": _params(sent)}
        try:
            reply = await judge.client.complete(sent, keeps_format=keeps_format)
        except CallFailed as failure:
            self.failed(model, failure)
            self.doubted = failure if failure.lacks else None
            self.exchange["error"] = {"code": failure.code, "message": failure.message}
            if failure.body is not None:
                self.exchange |= _said(failure.body, failure.usage, model)
            raise
        except Stopped as stopped:
            self.spent.append(Spent(model, stopped.calls, stopped.usage, judging=True))
            raise
        if self.doubted is not None:
            # The same question was taken in another form: it was the form that was refused.
            quirks = map(format_named, self.doubted.lacks)
            judge.lessons.learn(judge.upstream, quirks, self.doubted.message)
            self.doubted = None
        self.spent.append(Spent(model, reply.calls, reply.usage, judging=True))
        self.exchange |= _said(reply.body, reply.usage, model)
        if reply.notes:
            self.exchange["notes"] = reply.notes
        return reply.body

    async def embed(self, model: str, texts: list[str]) -> list[list[float]]:
        judge = self.judges[model]
        try:
            reply = await judge.client.embed({"model": judge.upstream, "input": texts})
        except CallFailed as failure:
            self.failed(judge.name, failure)
            raise
        except Stopped as stopped:
            self.spent.append(Spent(judge.name, stopped.calls, stopped.usage, judging=True))
            raise
        # Before the reply is looked at: what cannot be used was paid for all the same.
        self.spent.append(Spent(judge.name, reply.calls, reply.usage, judging=True))
        return vectors_of(reply.body, len(texts))

    def failed(self, model: str, failure: CallFailed) -> None:
        self.spent.append(Spent(model, failure.calls, failure.usage, judging=True))
        # Kept apart, since a grader may make another error of it, and why matters to a user.
        if failure.code == BUDGET:
            self.refused = Fault(failure.code, failure.message)


def _said(body: Mapping[str, Any], usage: Usage, model: str) -> dict[str, Any]:
    """Return what an exchange keeps of a completion. model: where the completion names none."""
    return {
        "model": body.get("model") or model,
        "choices": body["choices"],
        "usage": usage.as_dict(),
    }


def _params(request: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name not in {"model", "messages"}}


class Batcher:
    """Collects the samples of one grader and gives them to it batch by batch.

    A batch begins when enough wait or one has waited enough. The next is larger after a quick one
    and small again after a slow one: a batch cannot be interrupted, and of samples that each
    take their whole deadline few must be in it. run: calls a blocking function in a thread.
    """

    def __init__(self, grader: BatchGrader, run: Callable[..., Any]) -> None:
        self._grader = grader
        self._run = run
        self._size = FIRST_BATCH
        self._waiting: deque[tuple[Sample, asyncio.Future[Mark]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def mark(self, sample: Sample) -> Mark:
        future: asyncio.Future[Mark] = asyncio.get_running_loop().create_future()
        self._waiting.append((sample, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        try:
            while self._waiting:
                if len(self._waiting) < self._size:
                    await asyncio.sleep(BATCH_SECONDS)
                count = min(self._size, len(self._waiting))
                await self._grade([self._waiting.popleft() for _ in range(count)])
        finally:
            self._worker = None

    async def _grade(self, batch: list[tuple[Sample, "asyncio.Future[Mark]"]]) -> None:
        batch = [(sample, future) for sample, future in batch if not future.done()]
        if not batch:
            return
        began = time.monotonic()
        marks = await self._run(_batch_marks, self._grader, [sample for sample, _ in batch])
        for (_, future), mark in zip(batch, marks, strict=True):
            if not future.done():  # while it was graded its shard may have been dropped
                future.set_result(mark)
        is_quick = time.monotonic() - began < QUICK_SECONDS
        self._size = min(4 * self._size, LARGEST_BATCH) if is_quick else FIRST_BATCH


@dataclass
class JudgingSession:
    """All that criteria need to judge: models for judges, batchers for batch graders.

    explains: whether plain graders write their evidence, which of a run is made when it is read.
    """

    criteria: Sequence[tuple[UUID, Grader]]
    judges: dict[str, Judge] = field(default_factory=dict)
    batchers: dict[UUID, Batcher] = field(default_factory=dict)
    explains: bool = False

    @property
    def waits(self) -> bool:
        """Tell whether any criterion is judged by a model or a program, which takes its time."""
        return any(not isinstance(grader, PlainGrader) for _, grader in self.criteria)

    def grade(self, row: Row, repeat: int, answer: Answer) -> Outcome:
        """Judge at once, by plain graders alone."""
        if answer.fault is not None:
            return self._unanswered(row, repeat, answer)
        sample = Sample(row.item, answer.sample, explains=self.explains)
        judged = [_plainly_judged(pk, grader, sample) for pk, grader in self.criteria]
        return _outcome(row, repeat, answer, judged, [])

    async def judge(self, row: Row, repeat: int, answer: Answer) -> Outcome:
        """Judge by graders of every shape, all at the same time. Raises Unfinished."""
        if answer.fault is not None or not self.waits:
            return self.grade(row, repeat, answer)
        sample = Sample(row.item, answer.sample, explains=self.explains)
        spent: list[Spent] = []
        marks = await asyncio.gather(
            *(self._judge_by(pk, grader, sample, spent) for pk, grader in self.criteria),
            # All are waited for, so that the calls of all are counted.
            return_exceptions=True,
        )
        judged = [mark for mark in marks if not isinstance(mark, BaseException)]
        if len(judged) < len(marks):
            if error := next((one for one in marks if _is_error(one)), None):
                raise error
            asked = [answer.spent] if answer.spent is not None else []
            raise Unfinished([*asked, *spent])
        return _outcome(row, repeat, answer, judged, spent)

    async def _judge_by(
        self, pk: UUID, grader: Grader, sample: Sample, spent: list[Spent]
    ) -> Judged:
        if isinstance(grader, JudgeGrader):
            asker = Asker(self.judges)
            try:
                mark = _sane(await grader.judge(sample, asker))
            except Stopped:
                spent.extend(asker.spent)
                raise
            except Exception as error:  # noqa: BLE001  one odd row must not take the others with it
                mark = _failed(grader, error)
            if asker.refused is not None and mark.value is None:
                mark = Mark(None, None, error=asker.refused)
            spent.extend(asker.spent)
            return Judged(pk, mark, dump_json(asker.exchange) if asker.exchange else None)
        if isinstance(grader, BatchGrader):
            return Judged(pk, await self.batchers[pk].mark(sample))
        return _plainly_judged(pk, grader, sample)

    def _unanswered(self, row: Row, repeat: int, answer: Answer) -> Outcome:
        """Err every criterion by the fault that kept the answer away."""
        lost = Mark(None, None, error=answer.fault)
        return _outcome(row, repeat, answer, [Judged(pk, lost) for pk, _ in self.criteria], [])


def _is_error(mark: Judged | BaseException) -> TypeGuard[BaseException]:
    return isinstance(mark, BaseException) and not isinstance(mark, Stopped)


def _outcome(
    row: Row, repeat: int, answer: Answer, judged: Sequence[Judged], spent: list[Spent]
) -> Outcome:
    if answer.spent is not None:
        spent = [answer.spent, *spent]
    return Outcome(
        row.index,
        repeat,
        answer.stored_sample,
        answer.exchange,
        answer.fault,
        judged,
        spent,
    )


def _plainly_judged(pk: UUID, grader: Grader, sample: Sample) -> Judged:
    # It would say the same of the same sample again: its evidence is made when it is read.
    return Judged(pk, _plain_mark(grader, sample), None, False)


def _plain_mark(grader: Grader, sample: Sample) -> Mark:
    assert isinstance(grader, PlainGrader)
    try:
        return _sane(grader.grade(sample))
    except Exception as error:  # noqa: BLE001  as above
        return _failed(grader, error)


def _batch_marks(grader: BatchGrader, samples: Sequence[Sample]) -> list[Mark]:
    try:
        marks = [_sane(mark) for mark in grader.grade_batch(samples)]
        if len(marks) != len(samples):
            raise ValueError(f"{len(marks)} marks for {len(samples)} samples")
        return marks
    except Exception as error:  # noqa: BLE001  as above
        return [_failed(grader, error)] * len(samples)


def _sane(mark: Mark) -> Mark:
    """The mark, or an errored one for a value that could neither be stored nor summed squared."""
    if mark.value is None or abs(mark.value) <= LARGEST_VALUE:
        return mark
    return Mark.errored_by("grader_failed", f"The value {mark.value} is no number to count with.")


def _failed(grader: Grader, error: Exception) -> Mark:
    log.exception("The grader %s failed", grader.kind)
    return Mark.errored_by("grader_failed", f"{type(error).__name__}: {error}")
