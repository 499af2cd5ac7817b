"""The seam of targets: what a kind of target is, and what passes between it and the engine."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, Self

from apps.clients import Stopped, Usage, is_built_in
from apps.evaluations.models import Evaluation
from apps.grading.graders.base import Fault
from apps.grading.samples import shortened_sample
from apps.inference.attached_models import Address, Models
from apps.inference.models import ModelEndpoint
from apps.strict_json import dump_json

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a source: its index from 0, its item, and the answer where it brings one."""

    index: int
    item: dict[str, Any]
    sample: dict[str, Any] | None


class Spent(NamedTuple):
    """The calls and tokens that asking a model took."""

    model: str
    calls: int
    usage: Usage
    judging: bool = False

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers in the order in which a tally sums them."""
        return (self.calls, *self.usage.counts)


class Unfinished(Stopped):
    """An item was called off before it had an outcome. spent: the calls that were made for it."""

    def __init__(self, spent: Sequence[Spent]) -> None:
        super().__init__()
        self.spent = spent


class Answer(NamedTuple):
    """An item's answer as graders see it, and what it took to get it.

    sample: None where the row brings no answer. exchange: JSON for the result's row, None for a
    recorded answer. kept: the sample as JSON, where another run has stored it.
    Source: contracts/openai.md, section 10.
    """

    sample: dict[str, Any] | None
    exchange: str | None = None
    fault: Fault | None = None
    spent: Spent | None = None
    kept: str | None = None

    @property
    def stored_sample(self) -> str | None:
        """The sample as JSON where it is not the row's own; its text stands in it once."""
        if self.kept is not None:
            return self.kept
        if self.exchange is None or self.sample is None:
            return None
        return dump_json(shortened_sample(self.sample))


@dataclass(frozen=True)
class Prompt:
    """A prompt as it may be shown: a template, or where in the row the messages lie."""

    messages: Sequence[Mapping[str, Any]] | None
    reference: str | None
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Prepared:
    """The part of a target that a run keeps. stored: JSON values, `kind` among them."""

    stored: dict[str, Any]
    endpoint: ModelEndpoint | None = None


class Answerer(Protocol):
    """A target that was opened: answers rows; belongs to one event loop."""

    async def answer(self, row: Row, repeat: int) -> Answer:
        """Answer a row; what could not be answered carries a fault instead of raising."""


class Instant(ABC):
    """An answerer that has its answers already: nobody is waited for."""

    @abstractmethod
    def at_once(self, row: Row, repeat: int) -> Answer:
        """Answer a row."""

    async def answer(self, row: Row, repeat: int) -> Answer:
        return self.at_once(row, repeat)


class Target(ABC):
    """A kind of target: how the items of a run get their answers.

    A face makes one, and `prepare` tells what the run keeps of it; `read` makes it again of that.
    It says what it will ask before anything is asked, and `open` gives what answers.
    kind: its name in what runs keep. waits: whether an item's answer is waited for; of a kind
    that does not, the answerer is Instant. model: the name that shows who is asked, "" where
    nobody is.
    """

    kind: ClassVar[str]
    waits: ClassVar[bool]
    model: str

    @classmethod
    @abstractmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """Return the target that `stored` was kept of."""

    @abstractmethod
    def prepare(self, evaluation: Evaluation) -> Prepared:
        """Find its models and check it against the evaluation. Raises UnknownModel and Unfit."""

    @abstractmethod
    def open(self, models: Models) -> Answerer:
        """Return what answers, by models that are opened already."""

    @property
    def addresses(self) -> Sequence[Address]:
        """The models that are asked for an item, one for each call of it."""
        return ()

    @property
    def calls_of_item(self) -> int:
        """The number of calls that an item takes, retries left out."""
        return sum(not is_built_in(address) for address in self.addresses)

    @property
    def prompt(self) -> Prompt | None:
        """The prompt by which a model is asked; None where nobody is."""
        return None

    def prompt_characters(self, row: Row) -> int:
        """About how many characters a call sends for a row, to estimate tokens by."""
        return 0

    @property
    def reply_limit(self) -> int | None:
        """The most tokens of a reply, None where no limit is set."""
        return None


async def answer_safely(answerer: Answerer, row: Row, repeat: int) -> Answer:
    """Return the answer to a row, an odd row's with a fault; Stopped passes through."""
    try:
        return await answerer.answer(row, repeat)
    except Stopped:
        raise
    except Exception as error:  # one odd row must not take the others with it
        log.exception("Row %d could not be answered", row.index)
        message = f"{type(error).__name__}: {error}"
        return Answer(None, exchange_of([], {}), Fault("answer_failed", message))


def exchange_of(messages: Sequence[Mapping[str, Any]], took: Mapping[str, Any]) -> str:
    """Write what was asked and what it took, for the result's row."""
    return dump_json({"input": messages, **took})
