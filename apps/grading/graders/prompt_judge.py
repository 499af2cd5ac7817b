"""The grader that has a model score by the author's own prompt."""

from dataclasses import dataclass, field

from apps.clients.base import WORDLESS
from apps.grading.graders.base import Fault, InvalidSetting, JudgeGrader, Mark, ModelCaller
from apps.grading.graders.judging import EVIDENCE_CHARS, Question, ask_judge
from apps.grading.graders.replies import PARSE, REFUSED, last_object, read_number, unusable
from apps.grading.graders.sides import (
    Side,
    read_ideal,
    read_prompt,
    read_reply,
)
from apps.grading.prompts import BadPrompt, PromptFailed, compile_prompt
from apps.grading.samples import Sample

READERS = {"input": read_prompt, "actual": read_reply, "ideal": read_ideal}
OURS = ("model", "messages", "stream")  # of a request, which params cannot set


@dataclass(frozen=True)
class PromptJudge(JudgeGrader):
    """Score by the number that a model gives as `score` of a JSON object: any range, not clamped.

    The request is the prompt as system message, left out where it is empty, and a user message
    without content; params are further fields of it. is_template: the prompt is a Jinja template
    (see prompts.compile_prompt) with the variables input, actual and ideal, which the templates of
    those names fill; else the prompt is sent as it is. choices: these may be lists of messages or
    choices, see sides.ReferenceGrader. pass_threshold: pass at this score or above; without one
    the score neither passes nor fails. Other members of the reply are ignored.

    A model that fails makes an errored mark at once. A reply without a number is asked for once
    more, and then errored.
    Source: docs/contracts/spice.md, section 11.7.
    """

    kind = "prompt_judge"

    model: str
    prompt: str = ""
    is_template: bool = False
    params: dict = field(default_factory=dict)
    input: str = "{{ item.input }}"
    actual: str = "{{ sample.output_text }}"
    ideal: str = "{{ item.ideal }}"
    choices: bool = False
    pass_threshold: float | None = None

    def __post_init__(self) -> None:
        if not self.model:
            raise InvalidSetting("model", "model must name a model.")
        for name in OURS:
            if name in self.params:
                raise InvalidSetting(("params", name), f"params cannot set {name}.")
        if self.is_template:
            try:
                compile_prompt(self.prompt)
            except BadPrompt as error:
                raise InvalidSetting("prompt", f"prompt cannot be a template: {error}.") from error

    def templates(self) -> tuple[str, ...]:
        return tuple(self._used().values())

    async def mark(self, sample: Sample, models: ModelCaller) -> Mark:
        try:
            prompt = self._filled(sample)
        except PromptFailed as error:
            return Mark.errored_by("invalid_prompt", f"The prompt cannot be filled in: {error}.")
        messages = [{"role": "system", "content": prompt}] if prompt else []
        messages.append({"role": "user", "content": ""})
        request = {"model": self.model, "messages": messages, **self.params}
        found = await ask_judge(
            models,
            Question(
                self.model,
                [lambda: request],
                _read,
                is_prompted=bool(self.prompt),
                asked_again=(PARSE, REFUSED, *WORDLESS),
            ),
        )
        if isinstance(found, Fault):
            return Mark(None, None, error=found)
        score, reply = found
        passed = None if self.pass_threshold is None else score >= self.pass_threshold
        return Mark(score, passed, reply[:EVIDENCE_CHARS])

    def _filled(self, sample: Sample) -> str:
        if not self.is_template:
            return self.prompt
        values: dict[str, Side] = {
            name: READERS[name](sample.value(template)) if self.choices else sample.render(template)
            for name, template in self._used().items()
        }
        return compile_prompt(self.prompt).fill(values)

    def _used(self) -> dict[str, str]:
        """Return the templates of the variables that the prompt reads; others may lack a value."""
        if not self.is_template:
            return {}
        templates = {"input": self.input, "actual": self.actual, "ideal": self.ideal}
        read = compile_prompt(self.prompt).variables
        return {name: template for name, template in templates.items() if name in read}


def _read(text: str) -> tuple[float, str]:
    """Return the number `score` of the last JSON object that has one, and the text itself."""
    score = last_object(text, "score")["score"]
    number = read_number(score)
    if number is None:
        raise unusable(score, "a number")
    return number, text
