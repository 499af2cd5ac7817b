"""Ask a model for a judgement, and ask in another way where its reply cannot be read."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from apps.clients.base import LENGTH, CallFailed
from apps.grading.graders.base import Fault, ModelCaller
from apps.grading.graders.replies import PARSE, last_object, read_reply

T = TypeVar("T")

EVIDENCE_CHARS = 2_000
REPLIES = 2  # at most, of which the first cannot be read
TEXT = {"type": "string"}
STEP = {
    "type": "object",
    "properties": {"description": TEXT, "conclusion": TEXT},
    "required": ["description", "conclusion"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Question(Generic[T]):
    """A question for a judge.

    ways: make the request, each in its way, the strictest first. Where a server refuses its form
    of reply, or its reply cannot be read, the next is taken; the last is taken again. read: what
    counts in a reply, see `read_reply`. is_prompted: the requests have the grader's own system
    prompt. asked_again: the codes of replies after which the judge is asked once more.
    """

    model: str
    ways: Sequence[Callable[[], dict[str, Any]]]
    read: Callable[[str], T]
    is_prompted: bool = False
    asked_again: Collection[str] = (PARSE, LENGTH)


async def ask_judge(models: ModelCaller, question: Question[T]) -> T | Fault:
    """Ask the judge, and return what counts in its reply, or the reason why there is nothing.

    Source: docs/contracts/openai.md, sections 13.4 and 13.5.
    """
    last = len(question.ways) - 1
    refused = {*models.refused_formats(question.model)}
    way = replies = 0
    while True:
        request = question.ways[way]()
        if way < last and _format_of(request) in refused:
            way += 1
            continue
        try:
            completion = await models.chat(
                request, prompted=question.is_prompted, keeps_format=way < last
            )
        except CallFailed as failure:
            if _format_of(request) not in failure.lacks:
                return Fault("model_grader_server_error", str(failure))
            refused.update(failure.lacks)
            continue
        replies += 1
        found = read_reply(completion, question.read)
        if not isinstance(found, Fault) or found.code not in question.asked_again:
            return found
        if replies == REPLIES:
            return found
        # Of this row alone: its reply says nothing of what the server can do.
        way = min(way + 1, last)


def _format_of(request: Mapping[str, Any]) -> str:
    return (request.get("response_format") or {}).get("type", "")


def verdict_ways(
    model: str,
    messages: Sequence[dict[str, Any]],
    params: Mapping[str, Any],
    result: Mapping[str, Any],
    plain: str,
) -> Sequence[Callable[[], dict[str, Any]]]:
    """Return the ways to ask for `steps` and a `result`: by JSON Schema, as JSON, or bare.

    result: the JSON Schema of the result. plain: the instruction that asks for it bare.
    """
    schema = {
        "type": "object",
        "properties": {"steps": {"type": "array", "items": STEP}, "result": result},
        "required": ["steps", "result"],
        "additionalProperties": False,
    }

    def by_schema() -> dict[str, Any]:
        named = {"name": "verdict", "strict": True, "schema": schema}
        asked = {"type": "json_schema", "json_schema": named}
        return {"model": model, "messages": messages, **params, "response_format": asked}

    def as_json() -> dict[str, Any]:
        told = instructed(
            messages,
            "Reply with one JSON object that fits this JSON Schema, and nothing else: "
            f"{json.dumps(schema, ensure_ascii=False)}",
        )
        asked = {"type": "json_object"}
        return {"model": model, "messages": told, **params, "response_format": asked}

    def bare() -> dict[str, Any]:
        return {"model": model, "messages": instructed(messages, plain), **params}

    return by_schema, as_json, bare


def instructed(messages: Sequence[dict[str, Any]], instruction: str) -> list[dict[str, Any]]:
    """Add an instruction to the first message where that is the system's, else to the last user's.

    Many servers refuse a system message that is not the first, and some a second one.
    """
    told = [*messages]
    users = [at for at, message in enumerate(told) if message["role"] == "user"]
    if told[0]["role"] in {"system", "developer"}:
        at = 0
    elif users:
        at = users[-1]
    else:
        return [*told, {"role": "user", "content": instruction}]
    content = told[at].get("content")
    if isinstance(content, list):
        content = [*content, {"type": "text", "text": instruction}]
    else:
        content = f"{content}\n\n{instruction}" if content else instruction
    told[at] = {**told[at], "content": content}
    return told


def read_result(text: str) -> tuple[Any, str]:
    """Return a judge's `result`, unchecked, and its reasons: its steps' conclusions in one text.

    Raises Unreadable.
    """
    verdict = last_object(text, "result")
    return verdict["result"], _reasons(verdict.get("steps"))


def _reasons(steps: Any) -> str:
    if not isinstance(steps, list):
        return ""
    texts = (step.get("conclusion") for step in steps if isinstance(step, dict))
    told = " ".join(text for text in texts if isinstance(text, str))[:EVIDENCE_CHARS]
    # An escape may spell half a character, which nothing can store.
    return told.encode(errors="replace").decode()
