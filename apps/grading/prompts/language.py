"""Parse prompts in the part of Jinja that can be filled in within bounds of time and memory."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes

from apps.grading.prompts.filling import FILTERS, KNOWN, LARGEST_INTEGER, TESTS, Filling

MAX_TEMPLATE_CHARS = 128 * 1024  # reading a text takes up to 0.5 µs a character
MAX_TOKENS = 4_000
MAX_DEPTH = 60

_JINJA = Environment(autoescape=False)  # noqa: S701  a prompt is no HTML


class BadPrompt(ValueError):
    """A text that is no template, or uses a part of Jinja that prompts lack; says where."""


@dataclass(frozen=True)
class Prompt:
    """A checked template. variables: the names that it reads."""

    body: tuple[nodes.Node, ...]
    variables: frozenset[str]

    def fill(self, values: Mapping[str, Any]) -> str:
        """Fill in the template from decoded JSON values. Raises PromptFailed."""
        filling = Filling()
        filling.run(self.body, dict(values))
        return "".join(filling.pieces)


@lru_cache(maxsize=64)
def compile_prompt(text: str) -> Prompt:
    """Parse a template. Raises BadPrompt for what is not part of a prompt's language.

    The language has: output, if, for, set, comments, raw; texts, numbers, lists; members, indexes
    and slices; and, or, not, in, comparisons, ~ + - *; `loop` with index, index0, first, last and
    length; the filters in FILTERS and the tests in TESTS. It has no calls, macros, blocks or
    imports, and no other operators, filters and tests: their work cannot be counted beforehand.
    An unknown name, and any member of one, is undefined and fills in as the empty text. A text is
    filled in as it is, any other value as JSON, and nothing is escaped.
    Source: docs/contracts/spice.md, section 11.7.
    """
    if len(text) > MAX_TEMPLATE_CHARS:
        raise BadPrompt(f"a template has at most {MAX_TEMPLATE_CHARS:,} characters")
    if not _is_storable(text):
        raise BadPrompt("it holds a character that JSON texts here cannot")
    try:
        if sum(1 for _ in islice(_JINJA.lex(text), MAX_TOKENS + 1)) > MAX_TOKENS:
            raise BadPrompt(f"a template has at most {MAX_TOKENS:,} tokens")
        tree = _JINJA.parse(text)
    except TemplateSyntaxError as error:
        raise BadPrompt(f"line {error.lineno}: {str(error.message)[:200].rstrip('.')}") from None
    except RecursionError:
        raise BadPrompt("it is nested too deeply") from None
    except (ValueError, OverflowError) as error:  # numbers of thousands of digits, odd escapes
        if isinstance(error, BadPrompt):
            raise
        raise BadPrompt(f"something in it cannot be read: {str(error)[:200]}") from None
    variables = {
        node.name for node in _checked(tree) if isinstance(node, nodes.Name) and node.ctx == "load"
    }
    return Prompt(tuple(tree.body), frozenset(variables))


def _checked(tree: nodes.Template) -> Iterator[nodes.Node]:
    """Yield every node below the root. Raises BadPrompt at one that is not in the language."""
    waiting: list[tuple[nodes.Node, int]] = [(node, 1) for node in tree.iter_child_nodes()]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise BadPrompt(f"line {node.lineno}: it is nested too deeply")
        if type(node) not in KNOWN:
            word = type(node).__name__.lower()
            raise BadPrompt(f"line {node.lineno}: a prompt has no {word}")
        if reason := _fault_of(node):
            raise BadPrompt(f"line {node.lineno}: {reason}")
        yield node
        waiting.extend((child, depth + 1) for child in node.iter_child_nodes())


def _fault_of(node: nodes.Node) -> str:
    if isinstance(node, nodes.Filter | nodes.Test):
        return _misuse_of(node)
    if isinstance(node, nodes.Tuple) and any(isinstance(one, nodes.Slice) for one in node.items):
        return "a list has no slices"
    if isinstance(node, nodes.For) and node.recursive:
        return "a loop cannot be recursive"
    if isinstance(node, nodes.For | nodes.Assign) and not isinstance(node.target, nodes.Name):
        return "only a single name can be set"
    if isinstance(node, nodes.Const):
        if isinstance(node.value, str):
            return "" if _is_storable(node.value) else "a text has a character that JSON has not"
        if isinstance(node.value, float) and not math.isfinite(node.value):
            return "a number is too large"
        if isinstance(node.value, int) and abs(node.value) > LARGEST_INTEGER:
            return "a number is too large"
    return ""


def _misuse_of(node: nodes.Filter | nodes.Test) -> str:
    noun, known = ("filter", FILTERS) if isinstance(node, nodes.Filter) else ("test", TESTS)
    if node.name not in known:
        return f"a prompt has no {noun} {node.name[:50]!r}, only {', '.join(known)}"
    least, most = known[node.name].takes
    if node.kwargs or node.dyn_args or node.dyn_kwargs or not least <= len(node.args) <= most:
        counts = str(least) if least == most else f"{least} to {most}"
        return f"the {noun} {node.name} takes {counts} plain arguments"
    return ""


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
