"""Parse and compute arithmetic over named numbers, without ever running it as Python."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MAX_FORMULA_CHARS = 4_000
MAX_DEPTH = 50

FUNCTIONS: dict[str, tuple[int, int | None, Callable[..., float]]] = {
    # name: fewest arguments, most arguments, what it computes
    "min": (1, None, min),
    "max": (1, None, max),
    "abs": (1, 1, abs),
    "floor": (1, 1, math.floor),
    "ceil": (1, 1, math.ceil),
    "exp": (1, 1, math.exp),
    "sqrt": (1, 1, math.sqrt),
    "log": (1, 1, math.log),
}
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|([^\W\d]\w*)|([-+*/^(),]))")

Numbers = Mapping[str, float]
Node = Callable[[Numbers], float]


class BadFormula(ValueError):
    """A formula that cannot be parsed, or that has no value for these numbers."""


@dataclass(frozen=True)
class Formula:
    """A parsed formula; `names` are the variables it reads."""

    text: str
    names: frozenset[str]
    _node: Node

    def value(self, numbers: Numbers) -> float:
        """Compute the value. Raises BadFormula where it is undefined or not finite."""
        try:
            value = float(self._node(numbers))
        except (ArithmeticError, ValueError, TypeError) as error:
            raise BadFormula(f"{self.text!r} has no value here: {error}") from error
        if not math.isfinite(value):
            raise BadFormula(f"{self.text!r} has no finite value here.")
        return value


def parse_formula(text: str) -> Formula:
    """Parse a formula of `+ - * / ^`, parentheses, numbers, names and FUNCTIONS.

    `^` is power: it binds before a sign and before all others, and from the right. Raises
    BadFormula with the position.
    Source: docs/contracts/openai.md, section 13.6.
    """
    if len(text) > MAX_FORMULA_CHARS:
        raise BadFormula(f"A formula has at most {MAX_FORMULA_CHARS:,} characters.")
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.names: set[str] = set()
        self._tokens = self._split(text)
        self._next = 0
        self._depth = 0

    @staticmethod
    def _split(text: str) -> list[tuple[str, str, int]]:
        tokens = []
        position, end = 0, len(text.rstrip())
        while position < end:
            found = _TOKEN.match(text, position)
            if found is None:
                raise BadFormula(f"Unexpected {text[position]!r} at character {position + 1}.")
            kind = ("number", "name", "sign")[(found.lastindex or 1) - 1]
            tokens.append((kind, found.group(found.lastindex or 1), found.start() + 1))
            position = found.end()
        return [*tokens, ("end", "", end + 1)]

    def parse(self) -> Formula:
        node = self._sum()
        kind, token, position = self._tokens[self._next]
        if kind != "end":
            raise BadFormula(f"Unexpected {token!r} at character {position}.")
        return Formula(self.text, frozenset(self.names), node)

    def _take(self, *signs: str) -> str:
        kind, token, _ = self._tokens[self._next]
        if kind == "sign" and token in signs:
            self._next += 1
            return token
        return ""

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            _, token, position = self._tokens[self._next]
            raise BadFormula(
                f"Expected {sign!r} at character {position}, not {token or 'the end'!r}."
            )

    def _sum(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadFormula(f"A formula nests at most {MAX_DEPTH} deep.")
        left = self._product()
        while sign := self._take("+", "-"):
            left = _combined(sign, left, self._product())
        self._depth -= 1
        return left

    def _product(self) -> Node:
        left = self._signed()
        while sign := self._take("*", "/"):
            left = _combined(sign, left, self._signed())
        return left

    def _signed(self) -> Node:
        negative = False
        while sign := self._take("+", "-"):
            negative ^= sign == "-"
        node = self._power()
        return (lambda numbers: -node(numbers)) if negative else node

    def _power(self) -> Node:
        base = self._atom()
        if not self._take("^"):
            return base
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadFormula(f"A formula nests at most {MAX_DEPTH} deep.")
        exponent = self._signed()
        self._depth -= 1
        return _combined("^", base, exponent)

    def _atom(self) -> Node:
        kind, token, position = self._tokens[self._next]
        if kind == "number":
            self._next += 1
            number = float(token)
            return lambda _: number
        if kind == "name":
            self._next += 1
            if self._take("("):
                return self._function(token, position)
            self.names.add(token)
            return lambda numbers: numbers[token]
        if self._take("("):
            node = self._sum()
            self._expect(")")
            return node
        raise BadFormula(f"Unexpected {token or 'end'!r} at character {position}.")

    def _function(self, name: str, position: int) -> Node:
        if name not in FUNCTIONS:
            known = ", ".join(FUNCTIONS)
            raise BadFormula(
                f"Unknown function {name!r} at character {position}: known are {known}."
            )
        fewest, most, compute = FUNCTIONS[name]
        arguments = [self._sum()]
        while self._take(","):
            arguments.append(self._sum())
        self._expect(")")
        if len(arguments) < fewest or (most is not None and len(arguments) > most):
            raise BadFormula(f"{name} at character {position} takes {fewest} argument.")
        return lambda numbers: compute(*(argument(numbers) for argument in arguments))


def _combined(sign: str, left: Node, right: Node) -> Node:
    if sign == "+":
        return lambda numbers: left(numbers) + right(numbers)
    if sign == "-":
        return lambda numbers: left(numbers) - right(numbers)
    if sign == "*":
        return lambda numbers: left(numbers) * right(numbers)
    if sign == "/":
        return lambda numbers: left(numbers) / right(numbers)
    return lambda numbers: math.pow(left(numbers), right(numbers))
