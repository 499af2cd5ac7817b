"""How an item gets its answer: it brings one, another run has it, or a chat model is asked."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Self
from uuid import UUID

from apps.clients import CallFailed, Client, Preset, Stopped, Usage
from apps.clients.messages import messages_of
from apps.evaluations.engine.source import Row
from apps.evaluations.engine.store import Spent
from apps.evaluations.models import Result, Shard
from apps.grading.graders.base import Fault
from apps.grading.samples import complete_sample
from apps.grading.templating import (
    MissingVariable,
    RenderedTooLong,
    render_messages,
    resolve,
)
from apps.strict_json import dump_json, parse_json

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What graders see of an answer, and what it took to get it.

    sample: None where the row brings no answer. exchange: JSON for the result's row, None for a
    recorded answer. kept: the sample as JSON, where another run has stored it.
    Source: docs/contracts/openai.md, section 10.
    """

    sample: dict[str, Any] | None
    exchange: str | None = None
    fault: Fault | None = None
    spent: Spent | None = None
    kept: str | None = None

    @property
    def stored_sample(self) -> str | None:
        """The sample as JSON where it is not the row's own."""
        if self.kept is not None:
            return self.kept
        if self.exchange is None or self.sample is None:
            return None
        return dump_json(self.sample)


UNANSWERED = Answer(
    None,
    fault=Fault("never_answered", "The run whose answers are graded ended before it had this one."),
)


class Target(ABC):
    """One way to get answers; `asks` tells whether it waits for somebody."""

    kind: ClassVar[str]
    asks: ClassVar[bool]

    @abstractmethod
    async def answer(self, row: Row, repeat: int) -> Answer:
        """Answer a row; what could not be answered carries a fault instead of raising."""


@dataclass(frozen=True)
class RecordedTarget(Target):
    """The row's own `sample`, completed from its `choices` where it is a raw completion."""

    kind = "recorded"
    asks = False

    def recorded(self, row: Row, repeat: int) -> Answer:
        return Answer(None if row.sample is None else complete_sample(row.sample))

    async def answer(self, row: Row, repeat: int) -> Answer:
        return self.recorded(row, repeat)


class Kept(NamedTuple):
    """What another run has stored of an item."""

    sample: str | None
    exchange: str | None
    error_code: str
    error_message: str


@dataclass(frozen=True)
class KeptTarget(RecordedTarget):
    """The answers that another run got, by row index and repeat; its faults are answers too.

    in_rows: what is not there is in the row itself, for that run asked nobody either.
    """

    answers: Mapping[tuple[int, int], Kept]
    in_rows: bool

    @classmethod
    def of(cls, run_id: UUID, shard: Shard, *, in_rows: bool) -> Self:
        """What the run has stored of a shard's rows, read at once."""
        rows = range(shard.first_row, shard.first_row + shard.row_count)
        found = Result.objects.filter(
            run=run_id, row_index__gte=rows.start, row_index__lt=rows.stop
        ).order_by()
        columns = ("row_index", "repeat", *Kept._fields)
        rows_kept = found.values_list(*columns)
        return cls({(index, repeat): Kept(*kept) for index, repeat, *kept in rows_kept}, in_rows)

    def recorded(self, row: Row, repeat: int) -> Answer:
        kept = self.answers.get((row.index, repeat))
        if kept is None:
            return super().recorded(row, repeat) if self.in_rows else UNANSWERED
        fault = Fault(kept.error_code, kept.error_message) if kept.error_code else None
        if kept.sample is None:
            answer = super().recorded(row, repeat)
            return replace(answer, exchange=kept.exchange, fault=fault)
        return Answer(parse_json(kept.sample), kept.exchange, fault, kept=kept.sample)


@dataclass(frozen=True)
class ChatTarget(Target):
    """A chat completion of a filled-in message template, or of what the row has at `reference`.

    That is a list of messages, or with takes_text also a text, see `messages_of`.
    """

    kind = "chat"
    asks = True

    client: Client
    model: str
    upstream: str
    messages: list[Mapping[str, Any]] | None
    reference: str | None
    takes_text: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    preset: Preset = field(default_factory=Preset)

    async def answer(self, row: Row, repeat: int) -> Answer:
        scope = {"item": row.item}
        try:
            messages = self._messages(scope)
        except (MissingVariable, RenderedTooLong, ValueError) as error:
            message = f"The prompt cannot be made: {error}."
            return Answer(None, _exchange([], {}), Fault("invalid_prompt", message))
        request = self.preset.apply({"model": self.upstream, "messages": messages, **self.params})
        messages = request["messages"]
        began = time.monotonic()
        try:
            reply = await self.client.complete(request)
        except CallFailed as failure:
            return Answer(
                None,
                _exchange(
                    messages,
                    {"calls": failure.calls, "seconds": round(time.monotonic() - began, 3)},
                ),
                Fault(failure.code, failure.message),
                Spent(self.model, failure.calls, Usage()),
            )
        took: dict[str, Any] = {
            "usage": reply.usage.as_dict(),
            "calls": reply.calls,
            "seconds": round(time.monotonic() - began, 3),
        }
        body = reply.body
        sample = {"model": body.get("model") or self.model, "choices": body["choices"]}
        if tools := self.params.get("tools"):
            sample["input_tools"] = tools
        wants_json = (self.params.get("response_format") or {}).get("type", "text") != "text"
        return Answer(
            complete_sample(sample, wants_json=wants_json),
            _exchange(messages, took),
            spent=Spent(self.model, reply.calls, reply.usage),
        )

    def _messages(self, scope: Mapping[str, Any]) -> list[dict[str, Any]]:
        if self.reference is None:
            return render_messages(self.messages or (), scope)
        found = resolve(self.reference, scope)
        if self.takes_text and not isinstance(found, list):
            return messages_of(found)
        if not isinstance(found, list) or not found:
            raise ValueError(f"{self.reference} is not a list of messages")
        if not all(isinstance(message, dict) and "role" in message for message in found):
            raise ValueError(f"{self.reference} holds something that is no message")
        return found


async def answer_safely(target: Target, row: Row, repeat: int) -> Answer:
    """The answer to a row; Stopped passes through."""
    try:
        return await target.answer(row, repeat)
    except Stopped:
        raise
    except Exception as error:  # one odd row must not take the others with it
        log.exception("Row %d could not be answered", row.index)
        message = f"{type(error).__name__}: {error}"
        return Answer(None, _exchange([], {}), Fault("answer_failed", message))


def _exchange(messages: list[dict[str, Any]], took: Mapping[str, Any]) -> str:
    return dump_json({"input": messages, **took})
