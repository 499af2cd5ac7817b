"""The grader that has a model give a score."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from apps.grading.graders.base import Fault, InvalidSetting, JudgeGrader, Mark, ModelCaller
from apps.grading.graders.judge_settings import read_messages, read_params, read_text
from apps.grading.graders.judging import Question, ask_judge, read_result, verdict_ways
from apps.grading.graders.replies import Unreadable, read_number, unusable
from apps.grading.samples import Sample
from apps.grading.templating import message_templates, render_messages
from apps.text import quoted

DEFAULT_RANGE = (0.0, 1.0)


@dataclass(frozen=True)
class ScoreModel(JudgeGrader):
    """Score by the judge's number, clamped to `range`; pass at `pass_threshold` or above.

    low, high: the range, 0 to 1 by default. pass_threshold: in units of the range, by default its
    middle. A number in quotes is that number. A refusal, an unreadable reply and a result that is
    no number are errored, never a score.
    Source: docs/contracts/openai.md, section 13.5.
    """

    kind = "score_model"

    model: str
    input: tuple[dict[str, Any], ...]
    low: float
    high: float
    pass_threshold: float
    params: Mapping[str, Any]

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        low, high = _read_range(settings.get("range"))
        threshold = settings.get("pass_threshold")
        if threshold is not None and not _is_number(threshold):
            raise InvalidSetting(
                "pass_threshold",
                f"pass_threshold must be a number, not {quoted(threshold)}.",
                "invalid_type",
            )
        return cls(
            model=read_text(settings, "model"),
            input=read_messages(settings),
            low=low,
            high=high,
            pass_threshold=(low + high) / 2 if threshold is None else float(threshold),
            params=read_params(settings),
        )

    def templates(self) -> tuple[str, ...]:
        return message_templates(self.input)

    async def mark(self, sample: Sample, models: ModelCaller) -> Mark:
        ways = verdict_ways(
            self.model,
            render_messages(self.input, sample.scope),
            self.params,
            {"type": "number"},
            f"Reply with one number from {self.low:g} to {self.high:g} and nothing else.",
        )
        found = await ask_judge(models, Question(self.model, ways, _read))
        if isinstance(found, Fault):
            return Mark(None, None, error=found)
        given, reasons = found
        value = min(max(given, self.low), self.high)
        passed = value >= self.pass_threshold
        if value == given:
            return Mark(value, passed, reasons)
        told = f"{given:g} was clamped to {value:g}; {reasons}".rstrip("; ")
        return Mark(value, passed, told, notes={"clamped_from": given})


def _read(text: str) -> tuple[float, str]:
    """Return a number and the reasons for it, or a number that stands alone."""
    try:
        result, reasons = read_result(text)
    except Unreadable:
        if (number := read_number(text)) is not None:
            return number, ""
        raise
    number = read_number(result)
    if number is None:
        raise unusable(result, "a number")
    return number, reasons


def _read_range(value: Any) -> tuple[float, float]:
    if value is None:
        return DEFAULT_RANGE
    if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)):
        raise InvalidSetting(
            "range", f"range must be two numbers, not {quoted(value)}.", "invalid_type"
        )
    low, high = map(float, value)
    if low >= high:
        raise InvalidSetting("range", f"range must run from low to high, not {quoted(value)}.")
    return low, high


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
