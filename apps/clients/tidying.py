"""Bring an answer's message into the form that callers read: one text, its reasoning beside it."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

# A template may have put the opening tag into the prompt already: then only the end is in the
# answer. JSON that quotes a block has none itself.
_THINK = re.compile(
    r'\s*(?:<think(?:ing)?>|(?![\s{["`]))(?P<thought>.*?)</think(?:ing)?>\s*', re.DOTALL
)
_OPEN = re.compile(r"\s*<think(?:ing)?>(?P<thought>.*)\Z", re.DOTALL)
REASONING = "reasoning_content"
THOUGHTS = ("thinking", "reasoning")  # the types of parts that tell what a model thought


def split_think(text: str) -> tuple[str, str]:
    """Part a text into a think block at its beginning and what follows; ("", text) without one.

    A block that never ends is all there is: the answer was cut before it began.
    """
    if "</think" in text and (found := _THINK.match(text)):
        return found["thought"].strip(), text[found.end() :]
    if found := _OPEN.match(text):
        return found["thought"].strip(), ""
    return "", text


def tidy(completion: Mapping[str, Any], *, strips_think: bool) -> None:
    """Make each message's content a text, in place.

    Parts become their joined text and stay as `content_parts`. Thoughts among them go to
    `reasoning_content`, and so does a think block before the text where it is stripped.
    """
    for choice in completion["choices"]:
        message = choice["message"]
        content = message.get("content")
        if type(content) is list:
            message["content_parts"] = content
            content = message["content"] = joined_text(content)
            _note_thought(message, "".join(_thoughts(message["content_parts"])))
        if strips_think and type(content) is str:
            thought, message["content"] = split_think(content)
            _note_thought(message, thought)


def text_of(content: Any) -> str:
    """Return a message's content as one text: parts joined, "" where there is none."""
    if isinstance(content, list):
        return joined_text(content)
    return content if isinstance(content, str) else ""


def joined_text(parts: Iterable[Any]) -> str:
    """Join the texts of a message's parts; what is no text is left out, and what is a thought."""
    return "".join(
        part if isinstance(part, str) else part["text"]
        for part in parts
        if isinstance(part, str) or (isinstance(part, dict) and _is_text(part))
    )


def _is_text(part: Mapping[str, Any]) -> bool:
    return isinstance(part.get("text"), str) and part.get("type") not in THOUGHTS


def _thoughts(parts: Iterable[Any]) -> Iterable[str]:
    for part in parts:
        if isinstance(part, dict) and part.get("type") in THOUGHTS:
            thinking = part.get("thinking") or part.get("text")
            yield text_of(thinking)


def _note_thought(message: dict[str, Any], thought: str) -> None:
    if thought and not message.get(REASONING):
        message[REASONING] = thought
