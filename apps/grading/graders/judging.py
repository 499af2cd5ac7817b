"""Ask a model for a judgement in JSON, and read its reply strictly."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.clients.base import CallFailed
from apps.clients.messages import for_chat
from apps.grading.graders.base import Fault, InvalidSetting, ModelCaller
from apps.strict_json import BadJSON, parse_json
from apps.text import quoted

EVIDENCE_CHARS = 2_000
REPLY_QUOTED = 300
ROLES = ("user", "assistant", "system", "developer")
PARAMS = ("seed", "top_p", "temperature", "reasoning_effort")

# The reply formats, the strictest first. One that a server refuses is not asked of it again.
STRUCTURED, JSON_OBJECT, PLAIN = range(3)


@dataclass(frozen=True)
class Question:
    """A question for a judge: messages, and the JSON Schema of the `result` that it must give.

    plain: the instruction for servers without a JSON mode, which asks for the bare result.
    takes_text: whether a bare text is a result then, or only JSON.
    """

    model: str
    messages: list[dict[str, Any]]
    result: Mapping[str, Any]
    plain: str
    takes_text: bool
    params: Mapping[str, Any]

    def request(self, reply_format: int) -> dict[str, Any]:
        """Build the chat request that asks for this reply format."""
        request = {"model": self.model, "messages": self.messages, **self.params}
        if reply_format == STRUCTURED:
            request["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "strict": True, "schema": self._schema()},
            }
        elif reply_format == JSON_OBJECT:
            request["response_format"] = {"type": "json_object"}
            request["messages"] = self._instructed(
                f"Reply with one JSON object that fits this JSON Schema, and nothing else: "
                f"{json.dumps(self._schema(), ensure_ascii=False)}"
            )
        else:
            request["messages"] = self._instructed(self.plain)
        return request

    def _schema(self) -> dict[str, Any]:
        text = {"type": "string"}
        step = {
            "type": "object",
            "properties": {"description": text, "conclusion": text},
            "required": ["description", "conclusion"],
            "additionalProperties": False,
        }
        return {
            "type": "object",
            "properties": {"steps": {"type": "array", "items": step}, "result": self.result},
            "required": ["steps", "result"],
            "additionalProperties": False,
        }

    def _instructed(self, instruction: str) -> list[dict[str, Any]]:
        return [*self.messages, {"role": "system", "content": instruction}]


@dataclass(frozen=True)
class JudgeReply:
    """A judge's `result`, unchecked, and the conclusions of its steps joined to one text."""

    result: Any
    reasons: str


async def ask_judge(models: ModelCaller, question: Question) -> JudgeReply | Fault:
    """Ask the judge, and return its reply or the reason why there is none.

    After an unreadable reply it is asked once more. A server that refuses structured outputs is
    asked for a JSON object, and one that refuses that too for the bare result.
    Source: docs/contracts/openai.md, sections 13.4 and 13.5.
    """
    fault: Fault | None = None
    for _ in range(2):
        try:
            body, reply_format = await _ask_in_accepted_format(models, question)
        except CallFailed as failure:
            return Fault("model_grader_server_error", str(failure))
        reply = _read(body, bare=reply_format == PLAIN, takes_text=question.takes_text)
        if isinstance(reply, JudgeReply):
            return reply
        fault = reply
        if fault.code == "model_grader_refusal_error":
            break
    assert fault is not None
    return fault


async def _ask_in_accepted_format(
    models: ModelCaller, question: Question
) -> tuple[dict[str, Any], int]:
    reply_format = models.reply_formats.get(question.model, STRUCTURED)
    while True:
        try:
            return await models.chat(question.request(reply_format)), reply_format
        except CallFailed as failure:
            if failure.code != "model_rejected" or reply_format == PLAIN:
                raise
        reply_format += 1
        models.reply_formats[question.model] = max(
            reply_format, models.reply_formats.get(question.model, STRUCTURED)
        )


def _read(body: Mapping[str, Any], *, bare: bool, takes_text: bool) -> JudgeReply | Fault:
    message = body["choices"][0]["message"]
    if refusal := message.get("refusal"):
        return Fault("model_grader_refusal_error", f"The judge refused: {_cut(str(refusal))}")
    content = message.get("content")
    if not isinstance(content, str) or not content.strip():
        return Fault("model_grader_parse_error", "The judge's reply is empty.")
    text = _unfenced(content.strip())
    try:
        value = parse_json(text)
    except BadJSON:
        if bare and takes_text:
            return JudgeReply(text, "")
        return Fault("model_grader_parse_error", f"The judge's reply is no JSON: {_cut(content)}")
    if isinstance(value, dict):
        if "result" not in value:
            return Fault(
                "model_grader_parse_error", f"The judge's reply has no result: {_cut(content)}"
            )
        return JudgeReply(value["result"], _reasons(value.get("steps")))
    if bare:
        return JudgeReply(value, "")
    return Fault("model_grader_parse_error", f"The judge's reply is no object: {_cut(content)}")


def _unfenced(text: str) -> str:
    """Take a reply out of a Markdown code block, in which many models wrap their JSON."""
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text.partition("\n")[2].removesuffix("```").strip()
    return text


def _reasons(steps: Any) -> str:
    if not isinstance(steps, list):
        return ""
    texts = (step.get("conclusion") for step in steps if isinstance(step, dict))
    return " ".join(text for text in texts if isinstance(text, str))[:EVIDENCE_CHARS]


def _cut(text: str) -> str:
    return text if len(text) <= REPLY_QUOTED else f"{text[:REPLY_QUOTED]}…"


def read_text(settings: Mapping[str, Any], name: str) -> str:
    """Read a setting that is a text and not empty. Raises InvalidSetting."""
    value = _required(settings, name)
    if not isinstance(value, str) or not value:
        raise InvalidSetting(
            name, f"{name} must be a string that is not empty, not {quoted(value)}.", "invalid_type"
        )
    return value


def read_messages(settings: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Read the judge's messages in the form of chat servers; their texts stay templates.

    Raises InvalidSetting.
    """
    messages = _required(settings, "input")
    if not isinstance(messages, list) or not messages:
        raise InvalidSetting(
            "input", f"input must be a list of messages, not {quoted(messages)}.", "invalid_type"
        )
    for index, message in enumerate(messages):
        where = f"input[{index}]"
        if not isinstance(message, dict) or "content" not in message:
            raise InvalidSetting(("input", index), f"{where} must be a message.", "invalid_type")
        if message.get("role") not in ROLES:
            raise InvalidSetting(
                ("input", index, "role"),
                f"{where}.role must be one of {', '.join(ROLES)}, "
                f"not {quoted(message.get('role'))}.",
            )
    return tuple(for_chat(messages))


def read_params(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read the judge's sampling parameters under a chat server's names, without unset ones.

    Raises InvalidSetting.
    """
    params = settings.get("sampling_params") or {}
    if not isinstance(params, dict):
        raise InvalidSetting(
            "sampling_params",
            f"sampling_params must be an object, not {quoted(params)}.",
            "invalid_type",
        )
    kept = {name: params[name] for name in PARAMS if params.get(name) is not None}
    # contract: openai section 21: both spellings are in use
    for name in ("max_completion_tokens", "max_completions_tokens"):
        if params.get(name) is not None:
            kept["max_completion_tokens"] = params[name]
    return kept


def read_texts(settings: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Read a setting that is a list of texts and not empty. Raises InvalidSetting."""
    values = _required(settings, name)
    if not isinstance(values, list) or not values:
        raise InvalidSetting(
            name, f"{name} must be a list of strings, not {quoted(values)}.", "invalid_type"
        )
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise InvalidSetting(
                (name, index),
                f"{name}[{index}] must be a string, not {quoted(value)}.",
                "invalid_type",
            )
    return tuple(values)


def _required(settings: Mapping[str, Any], name: str) -> Any:
    if settings.get(name) is None:
        raise InvalidSetting(name, f"{name} is required.", "missing_required_parameter")
    return settings[name]
