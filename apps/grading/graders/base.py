"""The base classes of graders, and the mark that a grader gives to a sample."""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from types import NoneType
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self, get_args

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
    """The reason why something could not be judged: a code for programs, a sentence for people."""

    code: str
    message: str


class Mark(NamedTuple):
    """A grader's judgement of one sample.

    value: None when the sample could not be judged; `error` then says why. passed: None when the
    grader has no threshold to pass, or no value. evidence: what explains the value to a reader.
    error: beside a value it says why that is 0, where what could not be judged counts as failed.
    notes: JSON values that faces show beside the value under these names: `clamped_from`,
    and `warning` of what makes the value worthless.
    Source: docs/contracts/openai.md, sections 13.2, 13.3 and 13.5.
    """

    value: float | None
    passed: bool | None
    evidence: str = ""
    error: Fault | None = None
    notes: Mapping[str, Any] | None = None

    @property
    def errored(self) -> bool:
        """Return whether the sample could not be judged; such marks stay out of all rates."""
        return self.value is None

    @classmethod
    def errored_by(cls, code: str, message: str) -> Self:
        """Build the mark of a sample that could not be judged, with the reason."""
        return cls(None, None, error=Fault(code, message))


class InvalidSetting(ValueError):
    """A setting from which no grader can be built.

    path: of the setting, as names and indexes; a name may stand alone. code: the kind of fault, for
    programs.
    """

    def __init__(
        self, path: str | tuple[str | int, ...], message: str, code: str = "invalid_value"
    ) -> None:
        super().__init__(message)
        self.path = (path,) if isinstance(path, str) else path
        self.message = message
        self.code = code


@dataclass(frozen=True)
class Grader(ABC):
    """The base of all graders: a frozen dataclass whose fields are its settings.

    A grader derives from one of the three shapes below. It sets `kind`, returns its templates, and
    raises InvalidSetting in __post_init__ for settings that it cannot work with.
    """

    kind: ClassVar[str]
    needs: ClassVar[Shape]

    @abstractmethod
    def templates(self) -> tuple[str, ...]:
        """Return every template that the grader fills, to be checked before it is stored."""

    def check_machine(self) -> None:  # noqa: B027  most graders run on every machine
        """Raise InvalidSetting when the grader cannot run on this machine."""

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build the grader from decoded JSON, ignoring keys that are not its own.

        Raises InvalidSetting for a missing setting, a wrong type or a refused value.
        """
        return cls(**{field.name: _read(field, settings) for field in fields(cls)})


class PlainGrader(Grader):
    """A grader that needs only the sample: plain code, run as each answer arrives."""

    needs = "grade"

    def grade(self, sample: Sample) -> Mark:
        """Mark the sample; a template that cannot be filled from it makes an errored mark."""
        try:
            return self.mark(sample)
        except (MissingVariable, RenderedTooLong) as error:
            return unfilled(error)

    @abstractmethod
    def mark(self, sample: Sample) -> Mark:
        """Mark the sample. Raises what Sample.render raises, which `grade` turns into a mark."""


class BatchGrader(Grader):
    """A grader that is cheaper for many samples at once, such as the sandbox."""

    needs = "grade_batch"

    @abstractmethod
    def grade_batch(self, samples: Sequence[Sample]) -> list[Mark]:
        """Mark every sample, in their order. One that cannot be judged does not fail the others."""


class ModelCaller(Protocol):
    """Access to the models of the run's account, as the engine provides it to judges."""

    def refused_formats(self, model: str) -> Collection[str]:
        """Return the types of response_format that the model's server is known to refuse."""

    async def chat(
        self, request: dict[str, Any], *, prompted: bool = False, keeps_format: bool = False
    ) -> dict[str, Any]:
        """Send a chat request and return the chat.completion. Raises CallFailed and Stopped.

        prompted: the request has a system prompt, so the model's own is left out. keeps_format: a
        response_format that the server refuses is not left out: the failure's `lacks` names it,
        for there is another way to ask. Taken then, it is remembered of the server.
        """

    async def embed(self, model: str, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text, all from one request. Raises as `chat` does.

        model: an embedding model's name, or "" for the account's own.
        """


class JudgeGrader(Grader):
    """A grader that calls a model.

    model_kind: the kind of model it calls. model: its name; "" is the account's own embedding
    model.
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
        """Mark the sample; a failed call makes an errored mark.

        Raises Stopped, and what Sample.render raises, which `judge` turns into a mark.
        """


def unfilled(error: MissingVariable | RenderedTooLong) -> Mark:
    """Build the mark of a sample from which a template could not be filled."""
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
