"""What every grader is: settings checked once, a sample read, a mark given."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from types import NoneType
from typing import Any, ClassVar, Literal, Protocol, Self, get_args

from apps.grading.samples import Sample
from apps.grading.templating import MissingVariable, RenderedTooLong
from apps.text import quoted

Shape = Literal["grade", "grade_batch", "judge"]
ModelKind = Literal["chat", "embedding"]

TYPE_NAMES = {
    str: "a string",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    NoneType: "null",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something could not be judged: a machine code and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A grader's judgement of one sample.

    value: None when the sample could not be judged; `error` then says why. passed: None when the
    grader has no threshold to pass, or no value. evidence: what explains the value to a reader.
    error: beside a value it says why that is 0, where what could not be judged counts as failed.
    Source: docs/contracts/openai.md, section 13.3.
    """

    value: float | None
    passed: bool | None
    evidence: str = ""
    error: Fault | None = None

    @property
    def errored(self) -> bool:
        return self.value is None

    @classmethod
    def errored_by(cls, code: str, message: str) -> Self:
        return cls(None, None, error=Fault(code, message))


class InvalidSetting(ValueError):
    """A setting that no grader can be built from; `code` is a word of the OpenAI error table."""

    def __init__(self, field: str, message: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.code = code


@dataclass(frozen=True)
class Grader(ABC):
    """Base of all graders: a frozen dataclass whose fields are its settings.

    A subclass of one of the three shapes below names its `kind`, lists its templates and refuses
    impossible settings in __post_init__ with InvalidSetting.
    """

    kind: ClassVar[str]
    needs: ClassVar[Shape]

    @abstractmethod
    def templates(self) -> tuple[str, ...]:
        """Every template text this grader fills, to be checked before it is stored."""

    def check_machine(self) -> None:  # noqa: B027  most need nothing of it
        """Raises InvalidSetting when this machine lacks what the grader needs of it."""

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build the grader from decoded JSON, ignoring keys that are not its own.

        Raises InvalidSetting for a missing setting, a wrong type or a refused value.
        """
        return cls(**{field.name: _read(field, settings) for field in fields(cls)})


class PlainGrader(Grader):
    """A grader that needs nothing but the sample."""

    needs = "grade"

    def grade(self, sample: Sample) -> Mark:
        """Mark the sample; a template that cannot be filled from it makes an errored mark."""
        try:
            return self.mark(sample)
        except (MissingVariable, RenderedTooLong) as error:
            return unfilled(error)

    @abstractmethod
    def mark(self, sample: Sample) -> Mark:
        """Mark the sample; what Sample.render raises passes through."""


class BatchGrader(Grader):
    """A grader that is cheaper for many samples at once: the sandbox, embeddings."""

    needs = "grade_batch"

    @abstractmethod
    def grade_batch(self, samples: Sequence[Sample]) -> list[Mark]:
        """Mark every sample, in their order; one that cannot be judged is errored alone."""


class ModelCaller(Protocol):
    """How a grader reaches models.

    reply_formats: by model, what was learned of its server while asking; see `judging`.
    """

    reply_formats: dict[str, int]

    async def chat(self, request: dict[str, Any], *, prompted: bool = False) -> dict[str, Any]:
        """The chat.completion that answers a request. Raises CallFailed, or Stopped.

        prompted: the request brings the system prompt, so the model's own is left out.
        """

    async def embed(self, model: str, texts: list[str]) -> list[list[float]]:
        """A vector for each text, all from one request. Raises as `chat` does.

        model: an embedding model's name, or "" for the account's own.
        """


class JudgeGrader(Grader):
    """A grader that asks a model; `model_kind` is the kind of it.

    model: its name; "" is the account's own embedding model.
    """

    needs = "judge"
    model_kind: ClassVar[ModelKind] = "chat"

    model: str

    async def judge(self, sample: Sample, models: ModelCaller) -> Mark:
        """Mark the sample; a template that cannot be filled from it makes an errored mark."""
        try:
            return await self.mark(sample, models)
        except (MissingVariable, RenderedTooLong) as error:
            return unfilled(error)

    @abstractmethod
    async def mark(self, sample: Sample, models: ModelCaller) -> Mark:
        """Mark the sample; a model that fails makes an errored mark, Stopped passes through."""


def unfilled(error: MissingVariable | RenderedTooLong) -> Mark:
    """The mark of a sample from which a template could not be filled."""
    if isinstance(error, MissingVariable):
        return Mark.errored_by("invalid_variable_error", f"This row has no {error.path}.")
    return Mark.errored_by("text_too_long", f"A filled template is too long: {error}.")


def _read(field: "Field[Any]", settings: Mapping[str, Any]) -> Any:
    name = field.name
    if name not in settings:
        if field.default is not MISSING:
            return field.default
        if field.default_factory is not MISSING:
            return field.default_factory()
        raise InvalidSetting(name, f"{name} is required.", "missing_required_parameter")
    value = settings[name]
    allowed = get_args(field.type) or (field.type,)
    if type(value) in allowed and not isinstance(value, float):
        return value
    # Whether JSON had 1 or 1.0 is the sender's habit; bool is an int in Python but not here.
    if float in allowed and type(value) in {int, float}:
        return _finite(name, value)
    expected = " or ".join(TYPE_NAMES[kind] for kind in allowed)
    raise InvalidSetting(name, f"{name} must be {expected}, not {quoted(value)}.", "invalid_type")


def _finite(name: str, value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isfinite(number):
        return number
    raise InvalidSetting(name, f"{name} must be a finite number, not {quoted(value)}.")
