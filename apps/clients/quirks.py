"""Quirks of model servers: read in a refusal what a server does not take, and ask without it; pure.

A quirk is a short text, so that it can be kept: `seed` is a parameter that is refused, `seed=7` one
that is refused with this value alone, `response_format:json_schema` a type of reply, and the rest
are the names below.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from apps.clients.tidying import joined_text
from apps.strict_json import BadJSON, dump_json

Request = Mapping[str, Any]

DEVELOPER, NO_SYSTEM, SYSTEM_FIRST = "developer", "system", "system_first"
ALTERNATE, PLAIN_TEXT = "alternate", "text_content"
FORMAT = "response_format"
# The forms of messages, in the order in which they are mended.
FORMS = {
    DEVELOPER: "The role developer is refused: its messages are sent as the system's.",
    PLAIN_TEXT: "Contents in parts are refused: their texts are sent joined.",
    SYSTEM_FIRST: "Only the first message may be the system's: all of them are sent as one.",
    NO_SYSTEM: "The role system is refused: its text is sent before the first user message.",
    ALTERNATE: "Roles have to alternate: neighbours of one role are sent as one message.",
}
RENAMED = {"max_completion_tokens": "max_tokens", "max_tokens": "max_completion_tokens"}
# What a request can do without. Not `tools`, `stop` or `n`, without which the answer is another's.
PARAMS = (
    *RENAMED,
    *("seed", "temperature", "top_p", "reasoning_effort", "verbosity", FORMAT),
    *("frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs"),
    *("parallel_tool_calls", "store", "metadata", "user", "service_tier", "stream_options"),
    *("prompt_cache_key", "safety_identifier"),
)
QUIRK_CHARS = 120
NEAR = 140  # characters about a name, in which the words are that refuse it

# Other names under which servers speak of a parameter.
ALIASES = {
    FORMAT: r"response[_ ]format|structured[ _]outputs?|json[_ ](?:mode|schema|object)",
    "reasoning_effort": r"reasoning[_ ]effort|reasoning value|thinking|reasoning",
}
REFUSES = re.compile(
    r"unsupported|(?:not|n't) (?:currently )?supported?\b|not support|unrecogni[sz]ed|unknown"
    r"|not permitted|extra_forbidden|unexpected|cannot find field|(?:not|n't) allowed|not enabled"
    r"|(?:un|not )available|enabled only|only the default|not implemented|must be ['\"]"
    r"|(?:must be|is not|expected|should be) one of|not match any|input should be '|no longer"
    r"|deprecated|invalid role"
)
OF_VALUE = re.compile(r"supported values|must be|one of|(?:valid|allowed) values|input should be '")
ONE_ROLE = re.compile(
    r"unexpected message role|incorrect role|(?:unknown|invalid|unexpected|unsupported)"
    r"(?: message)? role|only user(?:,| and) .*assistant.* roles"
)
SYSTEM_LATE = re.compile(
    r"system (?:message|prompt|role)s?.{0,60}(?:must|should|can only|only|has to|have to)"
    r".{0,60}(?:begin|first|start)|unexpected role 'system' after|expected last role"
    r"|(?:multiple|one|single) system messages?"
)
SYSTEM_NEVER = re.compile(
    r"system[' ]*(?:role|message|prompt|instruction)?s? (?:is |are )?(?:not|n't) "
    r"(?:supported|allowed|enabled)|not support (?:the )?['\"]?system|developer instruction is not"
    r"|only user and assistant roles"
)
MUST_ALTERNATE = re.compile(r"must alternate|requests alternate|consecutive (?:user|messages)")
WANTS_TEXT = re.compile(
    r"content.{0,60}(?:must|should|expected|valid).{0,30}string|invalid type: sequence, expected a "
    r"string|input should be a valid string"
)
# Faults of one request's text or schema; they say nothing of what the server can do.
OF_THE_ROW = re.compile(
    r"context.{0,20}(?:length|window|size)|too (?:long|large|many)|exceed|content.{0,5}"
    r"(?:filter|polic|management)|\bsafety\b|\bmoderation\b|sensitive|inappropriate"
    r"|invalid[ _](?:json[ _])?schema|schema for response|maximum .{0,20}(?:token|length)"
    r"|\bimages?\b|\baudio\b|api.?key|quota|billing|credit"
)
# Keys under which an error repeats what it was sent: a row's text must teach nothing.
ECHOES = frozenset({"input", "ctx", "request", "body", "failed_generation"})
REPEATED = re.compile(r"['\"]input['\"]: .*?(?=[,}]\s*(?:['\"](?:ctx|url|type|loc)['\"]|\]|\{|$))")


def words_of(error: Any) -> str:
    """Collect what an error's body says, in lower case, without what it repeats of the request."""
    text = "\n".join(_texts(error))
    return REPEATED.sub("", text).lower()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            if name not in ECHOES:
                yield from _texts(one)
    elif isinstance(value, list):
        path = [one for one in value if isinstance(one, str | int)]
        if path and len(path) == len(value):
            yield ".".join(map(str, path))
        else:
            for one in value:
                yield from _texts(one)


def is_of_the_row(words: str) -> bool:
    """Tell whether an error's words speak of the request's own text."""
    return bool(OF_THE_ROW.search(words))


def speaks_of_forms(words: str) -> bool:
    """Tell whether an error's words refuse the form of messages; a template says so with a 500."""
    return any(
        shape.search(words)
        for shape in (ONE_ROLE, SYSTEM_LATE, SYSTEM_NEVER, MUST_ALTERNATE, WANTS_TEXT)
    )


def refused_in(request: Request, words: str) -> list[str]:
    """Return the quirks that an error's words tell, of those that this request meets."""
    if is_of_the_row(words):
        return []
    return [*_refused_forms(request["messages"], words), *_refused_params(request, words)]


def _refused_forms(messages: Iterable[Mapping[str, Any]], words: str) -> Iterator[str]:
    present = set(_forms(messages))
    told = {
        DEVELOPER: bool(ONE_ROLE.search(words)) or _is_refused("developer", words),
        PLAIN_TEXT: bool(WANTS_TEXT.search(words)),
        SYSTEM_FIRST: bool(SYSTEM_LATE.search(words)),
        NO_SYSTEM: bool(SYSTEM_NEVER.search(words)),
        ALTERNATE: bool(MUST_ALTERNATE.search(words)),
    }
    for form in FORMS:
        if told[form] and form in present:
            yield form


def _forms(messages: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the forms of messages that some servers refuse, of those that are there."""
    roles = [message.get("role") for message in messages]
    if "developer" in roles:
        yield DEVELOPER
    if any(_is_text_in_parts(message.get("content")) for message in messages):
        yield PLAIN_TEXT
    if {"system", "developer"} & set(roles[1:]):
        yield SYSTEM_FIRST
    if {"system", "developer"} & set(roles):
        yield NO_SYSTEM
    yield ALTERNATE


def _refused_params(request: Request, words: str) -> Iterator[str]:
    for name in PARAMS:
        value = request.get(name)
        if value is None:
            continue
        pattern = ALIASES.get(name, re.escape(name))
        if not _is_refused(pattern, words):
            continue
        if name == FORMAT:
            yield format_quirk(value)
        elif OF_VALUE.search(words) and "only the default" not in words:
            yield _of_value(name, value)
        else:
            yield name


def names_a_param(request: Request, words: str) -> bool:
    """Tell whether an error's words speak of a parameter of this request, its value perhaps."""
    present = [name for name in PARAMS if request.get(name) is not None]
    return any(any(_mentions(ALIASES.get(name, re.escape(name)), words)) for name in present)


def _mentions(pattern: str, words: str) -> Iterator[re.Match[str]]:
    return re.finditer(rf"(?<![\w-])(?:{pattern})(?![\w-])", words)


def _is_refused(pattern: str, words: str) -> bool:
    for found in _mentions(pattern, words):
        if REFUSES.search(words[max(0, found.start() - NEAR) : found.end() + NEAR]):
            return True
    return False


def format_quirk(value: Any) -> str:
    """Name the quirk of a server that refuses this response_format."""
    return format_named(str(value.get("type") if isinstance(value, Mapping) else None))


def format_named(kind: str) -> str:
    """Name the quirk of a server that refuses this type of response_format."""
    return f"{FORMAT}:{kind[:40]}"


def formats_among(quirks: Iterable[str]) -> list[str]:
    """Return the types of response_format that are refused by these quirks."""
    return [quirk.partition(":")[2] for quirk in quirks if quirk.startswith(f"{FORMAT}:")]


def _of_value(name: str, value: Any) -> str:
    try:
        return f"{name}={dump_json(value)}"[:QUIRK_CHARS]
    except (BadJSON, ValueError, TypeError):
        return name


def suspects(request: Request) -> list[str]:
    """Return all quirks that a server which refuses this request without a word might have."""
    forms = [form for form in _forms(request["messages"]) if form not in {ALTERNATE, NO_SYSTEM}]
    params = [name for name in PARAMS if request.get(name) is not None]
    return forms + [format_quirk(request[FORMAT]) if one == FORMAT else one for one in params]


def of_this_value(request: Request, quirk: str) -> str:
    """Narrow a parameter's quirk to the value of this request, which alone was tried."""
    is_param = quirk in PARAMS and quirk != FORMAT
    return _of_value(quirk, request[quirk]) if is_param else quirk


def small_request(request: Request, quirks: Collection[str]) -> dict[str, Any]:
    """Make a harmless request to the same model that meets these quirks and no other."""
    user = {"role": "user", "content": "Reply with one word of JSON: true"}
    messages: list[dict[str, Any]] = [user]
    if PLAIN_TEXT in quirks:
        messages = [{**user, "content": [{"type": "text", "text": user["content"]}]}]
    if DEVELOPER in quirks:
        messages = [{"role": "developer", "content": "Be brief."}, *messages]
    if SYSTEM_FIRST in quirks:
        messages = [*messages, {"role": "system", "content": "Be brief."}]
    params = {name: request[name] for name in PARAMS if _param_among(quirks, name)}
    return {"model": request["model"], "messages": messages, **params}


def _param_among(quirks: Iterable[str], name: str) -> bool:
    return any(quirk == name or quirk.startswith((f"{name}=", f"{name}:")) for quirk in quirks)


def adapt(request: Request, quirks: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """Make a request without what these quirks refuse; return it, and a sentence on each change."""
    adapted = {**request}
    notes = []
    for form in FORMS:
        if form in quirks:
            messages = MENDERS[form](adapted["messages"])
            if messages != adapted["messages"]:
                adapted["messages"] = messages
                notes.append(FORMS[form])
    for name in PARAMS:
        value = request.get(name)
        if value is None:
            continue
        refused = {name, format_quirk(value) if name == FORMAT else _of_value(name, value)}
        if not refused & {*quirks}:
            continue
        del adapted[name]
        other = RENAMED.get(name)
        if other and other not in quirks and request.get(other) is None:
            adapted[other] = value
        notes.append(sentence((refused & {*quirks}).pop(), quirks))
    return adapted, notes


def sentence(quirk: str, quirks: Collection[str] = ()) -> str:
    """Say in a sentence what a quirk is and what is done about it."""
    if quirk in FORMS:
        return FORMS[quirk]
    name, equals, value = quirk.partition("=")
    shown = f"{name} {value}" if equals else name
    other = RENAMED.get(name)
    if other and other not in quirks:
        return f"{shown} is refused: it is sent as {other}."
    if equals:
        return f"{shown} is refused: it is left out."
    name, colon, kind = quirk.partition(":")
    if colon:
        return f"{name} of the type {kind} is refused: it is left out."
    return f"{name} is refused: it is left out."


def _as_system(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**message, "role": "system"} if message.get("role") == "developer" else message
        for message in messages
    ]


def _is_text_in_parts(content: Any) -> bool:
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" for part in content
    )


def _plain(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**message, "content": joined_text(message["content"])}
        if _is_text_in_parts(message.get("content"))
        else message
        for message in messages
    ]


def _parted(messages: Iterable[dict[str, Any]]) -> tuple[list[Any], list[dict[str, Any]]]:
    """Part the contents of system messages from the other messages."""
    systems, others = [], []
    for message in messages:
        if message.get("role") in {"system", "developer"}:
            systems.append(message.get("content"))
        else:
            others.append(message)
    return systems, others


def _system_first(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    systems, others = _parted(messages)
    return [{"role": "system", "content": _joined(systems)}, *others] if systems else others


def _without_system(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    systems, others = _parted(messages)
    if not systems:
        return others
    for index, message in enumerate(others):
        if message.get("role") == "user":
            told = {**message, "content": _joined([*systems, message.get("content")])}
            return [*others[:index], told, *others[index + 1 :]]
    return [{"role": "user", "content": _joined(systems)}, *others]


def _alternating(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for message in _system_first(messages):
        last = made[-1] if made else {}
        mergeable = {*message, *last} <= {"role", "content"}
        if mergeable and last.get("role") == message.get("role"):
            made[-1] = {**last, "content": _joined([last.get("content"), message.get("content")])}
        else:
            made.append(message)
    return made


def _joined(contents: Iterable[Any]) -> Any:
    """Join contents: as a text where all are, else as a list of all their parts."""
    said = [content for content in contents if content]
    if all(isinstance(content, str) for content in said):
        return "\n\n".join(said)
    parts: list[Any] = []
    for content in said:
        parts += [{"type": "text", "text": content}] if isinstance(content, str) else content
    return parts


MENDERS = {
    DEVELOPER: _as_system,
    PLAIN_TEXT: _plain,
    SYSTEM_FIRST: _system_first,
    NO_SYSTEM: _without_system,
    ALTERNATE: _alternating,
}
