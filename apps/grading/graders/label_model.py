"""The grader that has a model choose one of several labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from apps.grading.graders.base import Fault, InvalidSetting, JudgeGrader, Mark, ModelCaller
from apps.grading.graders.judging import (
    Question,
    ask_judge,
    read_messages,
    read_params,
    read_text,
    read_texts,
)
from apps.grading.samples import Sample
from apps.grading.templating import message_templates, render_messages
from apps.text import quoted


@dataclass(frozen=True)
class LabelModel(JudgeGrader):
    """Pass with 1.0 when the judge's label is among `passing_labels`, else fail with 0.0.

    input: messages whose texts are templates. labels: all labels that the judge may choose. A
    refusal, an unreadable reply and a label that is not among `labels` are errored, never a score.
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
        named = ", ".join(quoted(label) for label in self.labels)
        question = Question(
            model=self.model,
            messages=render_messages(self.input, sample.scope),
            result={"type": "string", "enum": list(self.labels)},
            plain=f"Reply with exactly one of these labels and nothing else: {named}",
            takes_text=True,
            params=self.params,
        )
        reply = await ask_judge(models, question)
        if isinstance(reply, Fault):
            return Mark(None, None, error=reply)
        label = reply.result if isinstance(reply.result, str) else quoted(reply.result)
        if label not in self.labels:
            return Mark.errored_by(
                "model_grader_parse_error",
                f"The judge chose {quoted(label)}, which is not among the labels {named}.",
            )
        passed = label in self.passing_labels
        evidence = f"{label}: {reply.reasons}" if reply.reasons else label
        return Mark(float(passed), passed, evidence)
