"""The few words that Django lacks for what services raise; a face gives each its own status."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.core.exceptions import ValidationError

Step = str | int
Path = tuple[Step, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with what a caller gave.

    path: the names and indexes that lead to it, ("criteria", 0, "operation"), empty for the whole.
    code: a machine's word: invalid_value, invalid_type, missing_required_parameter, ….
    """

    message: str
    path: Path = ()
    code: str = "invalid_value"


class Refusal(ValidationError):
    """What a caller gave is not taken; `problems` are the reasons, one at least.

    Raised as Invalid or Unfit: with a list of problems, or with the message, path and code of a
    single one, whose path may be given as one name.
    """

    problems: tuple[Problem, ...]

    def __init__(
        self,
        problems: str | Sequence[Problem],
        *,
        path: str | Sequence[Step] = (),
        code: str = "invalid_value",
    ) -> None:
        if isinstance(problems, str):
            steps = (path,) if isinstance(path, str) else tuple(path)
            problems = [Problem(problems, steps, code)]
        if len(problems) == 1:
            super().__init__(problems[0].message, code=problems[0].code)
        else:
            super().__init__([ValidationError(one.message, code=one.code) for one in problems])
        self.problems = tuple(problems)


class Invalid(Refusal):
    """It is wrong in itself: no state of the data would make it right."""


class Unfit(Refusal):
    """It is well formed and against a rule of the domain: a name is taken, a model unknown."""


class StateError(Exception):
    """The thing asked for is not possible in the state that the object is in."""


class LimitError(Exception):
    """A bound on size or number is reached; the message names the bound."""


def dotted(path: Sequence[Step]) -> str:
    """Spell a path with dots and brackets: "criteria[0].operation"; "" for an empty one."""
    spelled = ""
    for step in path:
        if isinstance(step, int):
            spelled += f"[{step}]"
        else:
            spelled += f".{step}" if spelled else step
    return spelled
