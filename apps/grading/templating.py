"""Fill the {{ item.path }} placeholders of templates, by substitution alone."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from apps.strict_json import BadJSON, dump_json, parse_json

NAMESPACES = ("item", "sample")
# For callers to check before they store a template: compiled ones are kept in memory.
MAX_TEMPLATE_CHARS = 1024 * 1024
# As much as the longest row; without it, many placeholders of one long value would fill the memory.
MAX_RENDERED_CHARS = 16 * 1024 * 1024

Scope = Mapping[str, Any]
Finder = Callable[[Scope], Any]

_PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")
_PATH = re.compile(r"([^\W\d]\w*)((?:\.[^.\[\]]+|\[[0-9]{1,9}\])*)")
_STEP = re.compile(r"\.([^.\[\]]+)|\[([0-9]+)\]")
_NAME_START = re.compile(r"[^\W\d]")
# contract: openai section 9: a call's arguments are JSON in a string, read when a path goes into it
_CALLS = ("function", "function_call")
# Members that a chat server leaves out of a message where there is nothing of the kind.
UNSAID = ("content", "refusal", "tool_calls", "function_call", "audio")


class MissingVariable(LookupError):
    """A placeholder's path leads nowhere in the scope; `path` is its text, "item.a.b"."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is not there")
        self.path = path


class RenderedTooLong(ValueError):
    """A rendered template would pass MAX_RENDERED_CHARS."""

    def __init__(self) -> None:
        super().__init__(f"the rendered template is longer than {MAX_RENDERED_CHARS:,} characters")


@dataclass(frozen=True, slots=True)
class Variable:
    """The name in a placeholder: a namespace, and the keys and indexes below it."""

    namespace: str
    path: tuple[str | int, ...]

    def __str__(self) -> str:
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)
        return self.namespace + "".join(steps)


class Template:
    """A compiled template: literal texts with variables between them."""

    __slots__ = ("_fillings", "_head", "_room", "text", "variables")

    def __init__(self, text: str, literals: list[str], variables: list[Variable]) -> None:
        self.text = text
        self.variables = tuple(variables)
        self._head, *tails = literals
        self._fillings = tuple(zip(map(_finder, variables), tails, strict=True))
        self._room = MAX_RENDERED_CHARS - sum(map(len, literals))

    def render(self, scope: Scope) -> str:
        """Fill in the variables: a text as it is, any other value as JSON.

        Placeholders in a value are not filled in again. Raises MissingVariable, and
        RenderedTooLong past MAX_RENDERED_CHARS.
        """
        if not self._fillings:
            return self.text
        room = self._room
        pieces = [self._head]
        for find, literal in self._fillings:
            value = find(scope)
            text = value if type(value) is str else dump_json(value)
            room -= len(text)
            if room < 0:
                raise RenderedTooLong
            pieces += (text, literal)
        return "".join(pieces)

    def value(self, scope: Scope) -> Any:
        """Return the value of a template that is one placeholder and nothing else, else render it.

        Raises as `render` does.
        """
        if not self._head and len(self._fillings) == 1 and not self._fillings[0][1]:
            return self._fillings[0][0](scope)
        return self.render(scope)


@lru_cache(maxsize=128)
def compile_template(text: str) -> Template:
    """Split a template into literals and variables; never raises.

    Braces that hold no path, or are not closed, are literal text. Braces that hold words which
    are no path make a variable of an unknown namespace, for validation to refuse.
    Source: docs/contracts/openai.md, section 9.
    """
    literals, variables = [], []
    literal_from = 0
    for match in _PLACEHOLDER.finditer(text):
        variable = _parse(match[1].strip())
        if variable:
            literals.append(text[literal_from : match.start()])
            variables.append(variable)
            literal_from = match.end()
    literals.append(text[literal_from:])
    return Template(text, literals, variables)


def resolve(path_text: str, scope: Scope) -> Any:
    """Return the value at "item.input.messages"; raises MissingVariable."""
    variable = _parse(path_text.strip())
    if variable is None:
        raise MissingVariable(path_text)
    return _finder(variable)(scope)


def render_content(content: Any, scope: Scope) -> Any:
    """Render a message's content: text, a content part, or a list of texts and parts.

    Templates stand in a part's `text`, its `image_url` or that one's `url`, and its
    `input_audio.data`.
    Source: docs/contracts/openai.md, sections 6 and 9.
    """
    return _map_texts(content, lambda text: compile_template(text).render(scope))


def render_messages(messages: Iterable[Mapping[str, Any]], scope: Scope) -> list[dict[str, Any]]:
    """Render each message's content; its other fields stay as they are."""
    return [
        {**message, "content": render_content(message.get("content"), scope)}
        for message in messages
    ]


def message_templates(messages: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return every text in the messages that rendering would fill in."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    for message in messages:
        _map_texts(message.get("content"), note)
    return tuple(found)


def unknown_variables(
    template: str, item_schema: Mapping[str, Any] | None, allow_sample: bool
) -> list[str]:
    """Return the variables that no row can have, each once, in the template's order.

    A variable is unknown when its namespace is neither item nor sample; when it is sample and
    `allow_sample` is false; or when the schema forbids it, at any depth, by additionalProperties
    false beside properties without its name. item_schema: None allows every item.
    Source: docs/contracts/openai.md, section 9.
    """
    unknown = {
        str(variable): None
        for variable in compile_template(template).variables
        if not _may_exist(variable, item_schema, allow_sample)
    }
    return list(unknown)


def _may_exist(variable: Variable, item_schema: Any, allow_sample: bool) -> bool:
    if variable.namespace == "sample":
        return allow_sample
    return variable.namespace == "item" and _schema_allows(item_schema, variable.path)


def _schema_allows(schema: Any, path: tuple[str | int, ...]) -> bool:
    for step in path:
        if not isinstance(schema, Mapping):
            return True
        if isinstance(step, int):
            schema = schema.get("items")
            continue
        declared = schema.get("properties")
        if not isinstance(declared, Mapping) or "$ref" in schema:
            return True
        if step not in declared:
            closed = schema.get("additionalProperties") is False
            return not closed or bool(schema.get("patternProperties"))
        schema = declared[step]
    return True


def _parse(body: str) -> Variable | None:
    match = _PATH.fullmatch(body)
    if match is None:
        return Variable(body, ()) if _NAME_START.match(body) else None
    path = tuple(int(index) if index else name for name, index in _STEP.findall(match[2]))
    return Variable(match[1], path)


def _finder(variable: Variable) -> Finder:
    if variable.namespace not in NAMESPACES:
        return _nothing(str(variable))
    if len(variable.path) == 1 and isinstance(variable.path[0], str):
        find = _field(variable.namespace, variable.path[0])
    else:
        find = _descent(variable)
    is_own_json = variable.path[:1] == ("output_json",) and len(variable.path) > 1
    return _said(find) if variable.namespace == "sample" and not is_own_json else find


def _said(find: Finder) -> Finder:
    """Build the finder of something in an answer: what is null there has not been said."""

    def find_said(scope: Scope) -> Any:
        value = find(scope)
        # contract: openai section 10: no answer never equals a text about null
        return "" if value is None else value

    return find_said


def _nothing(name: str) -> Finder:
    def find(scope: Scope) -> Any:
        raise MissingVariable(name)

    return find


def _field(namespace: str, key: str) -> Finder:
    """Build the finder of {{ item.key }}, without the loop: most variables are of this form."""

    def find(scope: Scope) -> Any:
        try:
            return scope[namespace][key]
        except (LookupError, TypeError):
            raise MissingVariable(f"{namespace}.{key}") from None

    return find


def _descent(variable: Variable) -> Finder:
    namespace, path = variable.namespace, variable.path
    steps = [
        (step, index > 1 and path[index - 2] in _CALLS and path[index - 1] == "arguments")
        for index, step in enumerate(path)
    ]

    is_answer = namespace == "sample"

    def find(scope: Scope) -> Any:
        try:
            value = scope[namespace]
            if value is None:
                raise LookupError(namespace)
            for depth, (step, inside_json) in enumerate(steps):
                if inside_json and isinstance(value, str):
                    value = parse_json(value)
                if is_answer and _is_unsaid(value, depth, path):
                    return ""
                if isinstance(step, int) and not isinstance(value, list):
                    raise LookupError(step)
                value = value[step]
        except (LookupError, TypeError, BadJSON):
            raise MissingVariable(str(variable)) from None
        return value

    return find


def _is_unsaid(value: Any, depth: int, path: tuple[str | int, ...]) -> bool:
    """Tell whether the step at this depth leads below null, or to what a model did not say.

    Source: docs/contracts/openai.md, the additions to section 10.
    """
    if value is None:
        return True
    step = path[depth]
    if isinstance(value, dict):
        return path[0] == "choices" and step in UNSAID and step not in value
    is_call = path[0] == "output_tools" and depth == 1
    return is_call and isinstance(step, int) and isinstance(value, list) and step >= len(value)


def _map_texts(content: Any, change: Callable[[str], str]) -> Any:
    if isinstance(content, str):
        return change(content)
    if isinstance(content, list):
        return [_map_texts(part, change) for part in content]
    if not isinstance(content, dict):
        return content
    part = dict(content)
    for field in ("text", "image_url"):
        if isinstance(part.get(field), str):
            part[field] = change(part[field])
    image = part.get("image_url")
    if isinstance(image, dict) and isinstance(image.get("url"), str):
        part["image_url"] = {**image, "url": change(image["url"])}
    audio = part.get("input_audio")
    if isinstance(audio, dict) and isinstance(audio.get("data"), str):
        part["input_audio"] = {**audio, "data": change(audio["data"])}
    return part
