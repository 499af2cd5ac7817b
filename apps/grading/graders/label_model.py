"""The grader that has a model choose one of several labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from apps.grading.graders.base import Fault, InvalidSetting, JudgeGrader, Mark, ModelCaller
from apps.grading.graders.judge_settings import (
    read_messages,
    read_params,
    read_text,
    read_texts,
)
from apps.grading.graders.judging import Question, ask_judge, read_result, verdict_ways
from apps.grading.graders.replies import Unreadable, read_label, unusable
from apps.grading.samples import Sample
from apps.grading.templating import message_templates, render_messages
from apps.text import quoted


@dataclass(frozen=True)
class LabelModel(JudgeGrader):
    """Pass with 1.0 when the judge's label is among `passing_labels`, else fail with 0.0.

    input: messages whose texts are templates. labels: all labels that the judge may choose; case,
    punctuation and emphasis do not count. A refusal, an unreadable reply and a label that is not
    among `labels` are errored, never a score.
    Source: docs/contracts/openai.md, section 13.4.
    """

    kind = "label_model"

    model: str
    input: tuple[dict[str, Any], ...]
    labels: tuple[str, ...]
    passing_labels: tuple[str, ...]
    params: Mapping[str, Any]

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        return cls(
            model=read_text(settings, "model"),
            input=read_messages(settings),
            labels=read_texts(settings, "labels"),
            passing_labels=read_texts(settings, "passing_labels"),
            params=read_params(settings),
        )

    def __post_init__(self) -> None:
        for index, label in enumerate(self.passing_labels):
            if label not in self.labels:
                raise InvalidSetting(
                    ("passing_labels", index),
                    f"passing_labels[{index}] must be one of labels, not {quoted(label)}.",
                )

    def templates(self) -> tuple[str, ...]:
        return message_templates(self.input)

    async def mark(self, sample: Sample, models: ModelCaller) -> Mark:
        ways = verdict_ways(
            self.model,
            render_messages(self.input, sample.scope),
            self.params,
            {"type": "string", "enum": list(self.labels)},
            f"Reply with exactly one of these labels and nothing else: {self._named}",
        )
        found = await ask_judge(models, Question(self.model, ways, self._read))
        if isinstance(found, Fault):
            return Mark(None, None, error=found)
        label, reasons = found
        passed = label in self.passing_labels
        return Mark(float(passed), passed, f"{label}: {reasons}" if reasons else label)

    @property
    def _named(self) -> str:
        return ", ".join(quoted(label) for label in self.labels)

    def _read(self, text: str) -> tuple[str, str]:
        """Return a label and the reasons for it, or a label that stands alone."""
        try:
            result, reasons = read_result(text)
        except Unreadable:
            if label := read_label(text, self.labels):
                return label, ""
            raise
        label = read_label(result, self.labels)
        if label is None:
            raise unusable(result, f"among the labels {self._named}")
        return label, reasons
