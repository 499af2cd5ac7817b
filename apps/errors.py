"""The errors that services raise besides Django's own; a face gives each its status."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.core.exceptions import ValidationError

Step = str | int
Path = tuple[Step, ...]


@dataclass(frozen=True)
class Problem:
    """A fault in what a caller gave.

    path: the names and indexes that lead to it, ("criteria", 0, "operation"), empty for the whole.
    code: a machine's word: invalid_value, invalid_type, missing_required_parameter, ….
    """

    message: str
    path: Path = ()
    code: str = "invalid_value"


class Refusal(ValidationError):
    """A refusal of what a caller gave; `problems` are the reasons, one at least.

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
    """A refusal of what is wrong in itself, whatever the state of the data."""


class Unfit(Refusal):
    """A refusal of what is well formed but breaks a rule of the domain: a name is taken, say."""


class StateError(Exception):
    """A refusal of what is not possible in the state that an object is in."""


class LimitError(Exception):
    """A refusal of what passes a bound on size or number, which the message names."""


def dotted(path: Sequence[Step]) -> str:
    """Spell a path with dots and brackets: "criteria[0].operation"; "" for an empty one."""
    spelled = ""
    for step in path:
        if isinstance(step, int):
            spelled += f"[{step}]"
        else:
            spelled += f".{step}" if spelled else step
    return spelled
