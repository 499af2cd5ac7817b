"""Bring an answer's message into the form that callers read: one text, its reasoning beside it."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

# A template may have put the opening tag into the prompt already: then only the end is in the
# answer.
_THINK = re.compile(
    r"\s*(?:<(?P<tag>think|thinking)>)?(?P<thought>.*?)</(?:think|thinking)>\s*", re.DOTALL
)
_OPEN = re.compile(r"\s*<think(?:ing)?>(?P<thought>.*)\Z", re.DOTALL)
REASONING = "reasoning_content"


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


def joined_text(parts: Iterable[Any]) -> str:
    """Join the texts of a message's parts; what is no text is left out."""
    return "".join(
        part if isinstance(part, str) else part["text"]
        for part in parts
        if isinstance(part, str) or (isinstance(part, dict) and isinstance(part.get("text"), str))
    )


def _thoughts(parts: Iterable[Any]) -> Iterable[str]:
    for part in parts:
        if isinstance(part, dict) and part.get("type") == "thinking":
            thinking = part.get("thinking")
            yield thinking if isinstance(thinking, str) else joined_text(thinking or ())


def _note_thought(message: dict[str, Any], thought: str) -> None:
    if thought and not message.get(REASONING):
        message[REASONING] = thought
