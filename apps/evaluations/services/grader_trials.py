"""Check a grader that belongs to no evaluation, and try it on one sample."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.errors import Invalid, Refusal, Unfit
from apps.evaluations.services.quick_judging import (
    judge_items,
    with_recorded_answer,
)
from apps.evaluations.targets import Spent
from apps.grading.graders import build_grader
from apps.grading.graders.base import Grader, InvalidSetting, Mark
from apps.grading.graders.formula import BadFormula
from apps.grading.graders.multi import BAD_FORMULA, Multi, read_multi
from apps.grading.graders.multi import KIND as MULTI
from apps.grading.templating import unknown_variables
from apps.inference.served_models import UnknownModel, find_judges


@dataclass(frozen=True)
class Trial:
    """The outcome of a grader, or of a multi grader and its parts, on one sample.

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
        if error.problems[0].code != BAD_FORMULA:
            raise
        return Trial(0.0, {}, (), 0.0, error.messages[0])
    multi = checked if isinstance(checked, Multi) else None
    graders = {"": checked} if isinstance(checked, Grader) else checked.graders
    began = time.monotonic()
    tried = with_recorded_answer(0, {**item}, {**sample})
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
    """Build the grader that these settings describe. Raises Invalid or Unfit with the path."""
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
