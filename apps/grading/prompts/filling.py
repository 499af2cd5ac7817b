"""Evaluate a prompt's syntax tree node by node, counting every step and every character.

A prompt can reach texts, numbers, lists and objects only: no attribute of a Python object is ever
looked up, and nothing is called but the functions of this module.
"""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import nodes

from apps.strict_json import dump_json

# A step takes about a microsecond, and so does reading CHARS_A_STEP characters: MAX_STEPS stay well
# below the tenth of a second for which one row may hold up all others.
MAX_STEPS = 30_000
CHARS_A_STEP = 128
PARTS_A_STEP = 4
MAX_FILLED_CHARS = 16 * 1024 * 1024
LARGEST_INTEGER = 2**63

Names = dict[str, Any]


class PromptFailed(ValueError):
    """A prompt cannot be filled in from these values, or takes too many steps or characters."""


class _Undefined:
    """The value of a name that was not given, and of any member of it."""

    def __bool__(self) -> bool:
        return False


UNDEFINED: Final = _Undefined()


class Filling:
    """The state while one prompt is filled in.

    steps, room: the steps and the characters of output that are left. pieces: the output.
    """

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.room = MAX_FILLED_CHARS
        self.pieces: list[str] = []

    def run(self, body: Sequence[nodes.Node], names: Names) -> None:
        for node in body:
            self.spend(1)
            STATEMENTS[type(node)](self, node, names)

    def value(self, node: nodes.Node, names: Names) -> Any:
        self.spend(1)
        return VALUES[type(node)](self, node, names)

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise PromptFailed("it takes too much work")

    def pass_over(self, chars: int) -> None:
        """Spend the steps of an operation on this many characters, before it is done."""
        self.spend(chars // CHARS_A_STEP)

    def write(self, text: str) -> None:
        self.room -= len(text)
        if self.room < 0:
            raise PromptFailed(f"it becomes longer than {MAX_FILLED_CHARS:,} characters")
        self.pieces.append(text)

    def text(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        return "" if value is UNDEFINED else self.json(value)

    def json(self, value: Any) -> str:
        self.pay_for(value)
        return dump_json(None if value is UNDEFINED else value)

    def pay_for(self, value: Any) -> None:
        """Spend the steps of writing out a value with all that is in it."""
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if isinstance(one, str):
                self.pass_over(len(one))
            elif isinstance(one, list | dict):
                self.spend(1 + len(one) // PARTS_A_STEP)
                if isinstance(one, dict):
                    self.pass_over(sum(map(len, one)))
                waiting.extend(one.values() if isinstance(one, dict) else one)

    def output(self, node: nodes.Output, names: Names) -> None:
        for one in node.nodes:
            self.write(self.text(self.value(one, names)))

    def choose(self, node: nodes.If, names: Names) -> None:
        for branch in (node, *node.elif_):
            if self.value(branch.test, names):
                return self.run(branch.body, names)
        return self.run(node.else_, names)

    def assign(self, node: nodes.Assign, names: Names) -> None:
        assert isinstance(node.target, nodes.Name)
        names[node.target.name] = self.value(node.node, names)

    def loop(self, node: nodes.For, names: Names) -> None:
        assert isinstance(node.target, nodes.Name)
        target = node.target.name
        elements = self.elements_of(self.value(node.iter, names))
        if node.test is not None:
            within = dict(names)
            kept = []
            for element in elements:
                within[target] = element
                if self.value(node.test, within):
                    kept.append(element)
            elements = kept
        count = len(elements)
        for index, element in enumerate(elements):
            self.spend(1 + len(names) // 16)  # the copy's price
            position = {
                "index": index + 1,
                "index0": index,
                "first": index == 0,
                "last": index == count - 1,
                "length": count,
            }
            self.run(node.body, {**names, target: element, "loop": position})
        if not elements:
            self.run(node.else_, names)

    def elements_of(self, value: Any) -> Sequence[Any]:
        if value is UNDEFINED:
            return ()
        if isinstance(value, dict):
            self.spend(len(value))
            return list(value)
        if isinstance(value, list | str):
            return value
        raise PromptFailed("only a list, an object or a text can be gone through")

    def constant(self, node: nodes.Const | nodes.TemplateData, names: Names) -> Any:
        return node.data if isinstance(node, nodes.TemplateData) else node.value

    def name(self, node: nodes.Name, names: Names) -> Any:
        return names.get(node.name, UNDEFINED)

    def elements(self, node: nodes.List | nodes.Tuple, names: Names) -> Any:
        made = [self.value(item, names) for item in node.items]
        for element in made:
            # Lists in lists could double with every `set`.
            if isinstance(element, list | dict):
                raise PromptFailed("a list that is written out can hold no lists and no objects")
            if isinstance(element, str):
                self.pass_over(len(element))
        return [None if element is UNDEFINED else element for element in made]

    def member(self, node: nodes.Getattr, names: Names) -> Any:
        return _member(self.value(node.node, names), node.attr)

    def item(self, node: nodes.Getitem, names: Names) -> Any:
        whole = self.value(node.node, names)
        if not isinstance(node.arg, nodes.Slice):
            return _member(whole, self.value(node.arg, names))
        if not isinstance(whole, list | str):
            return UNDEFINED
        ends = (node.arg.start, node.arg.stop, node.arg.step)
        bounds = [None if end is None else self.value(end, names) for end in ends]
        if any(type(bound) not in {int, type(None)} for bound in bounds) or bounds[2] == 0:
            raise PromptFailed("a slice takes whole numbers, and its step is not 0")
        self.pass_over(len(whole) if isinstance(whole, str) else len(whole) * 8)
        return whole[slice(*bounds)]

    def filtered(self, node: nodes.Filter, names: Names) -> Any:
        assert node.node is not None
        value = self.value(node.node, names)
        arguments = [self.value(argument, names) for argument in node.args]
        return FILTERS[node.name].call(self, value, *arguments)

    def tested(self, node: nodes.Test, names: Names) -> bool:
        return bool(TESTS[node.name].call(self, self.value(node.node, names)))

    def conditional(self, node: nodes.CondExpr, names: Names) -> Any:
        if self.value(node.test, names):
            return self.value(node.expr1, names)
        return UNDEFINED if node.expr2 is None else self.value(node.expr2, names)

    def conjunction(self, node: nodes.And, names: Names) -> Any:
        return self.value(node.left, names) and self.value(node.right, names)

    def disjunction(self, node: nodes.Or, names: Names) -> Any:
        return self.value(node.left, names) or self.value(node.right, names)

    def negation(self, node: nodes.Not, names: Names) -> bool:
        return not self.value(node.node, names)

    def compared(self, node: nodes.Compare, names: Names) -> bool:
        left = self.value(node.expr, names)
        for operand in node.ops:
            right = self.value(operand.expr, names)
            if not self._holds(operand.op, left, right):
                return False
            left = right
        return True

    def _holds(self, word: str, left: Any, right: Any) -> bool:
        if word in {"eq", "ne"}:
            return self._equal(left, right) == (word == "eq")
        if word in {"in", "notin"}:
            return self._lies_in(left, right) == (word == "in")
        if isinstance(left, str) and isinstance(right, str):
            self.pass_over(min(len(left), len(right)))
        elif not _is_number(left) or not _is_number(right):
            raise PromptFailed("only two numbers or two texts have an order")
        return bool(ORDERS[word](left, right))

    def _equal(self, left: Any, right: Any) -> bool:
        if _is_number(left) and _is_number(right):
            return bool(left == right)
        if type(left) is not type(right):
            return False
        if isinstance(left, list | dict):
            raise PromptFailed("lists and objects cannot be compared")
        if isinstance(left, str):
            self.pass_over(min(len(left), len(right)))
        return bool(left == right)

    def _lies_in(self, left: Any, right: Any) -> bool:
        if isinstance(right, str):
            self.pass_over(8 * len(right))  # a search, at its worst, is slower than a look
            return isinstance(left, str) and left in right
        if isinstance(right, dict):
            return isinstance(left, str) and left in right
        if isinstance(right, list):
            self.spend(len(right))
            return any(self._equal(left, one) for one in right if not isinstance(one, list | dict))
        return False

    def joined(self, node: nodes.Concat, names: Names) -> str:
        return self.join([self.value(one, names) for one in node.nodes], "")

    def join(self, values: Sequence[Any], between: str) -> str:
        self.spend(len(values))
        self.pass_over(len(between) * len(values))
        texts = []
        for value in values:
            text = self.text(value)
            self.pass_over(len(text))
            texts.append(text)
        return between.join(texts)

    def arithmetic(self, node: nodes.BinExpr, names: Names) -> Any:
        left, right = self.value(node.left, names), self.value(node.right, names)
        if isinstance(node, nodes.Add) and isinstance(left, str) and isinstance(right, str):
            return self.join([left, right], "")
        if not _is_number(left) or not _is_number(right):
            raise PromptFailed("only numbers can be reckoned with; ~ joins texts")
        try:
            return _bounded(RECKONINGS[type(node)](left, right))
        except OverflowError:
            raise PromptFailed("a number is too large") from None

    def signed(self, node: nodes.UnaryExpr, names: Names) -> Any:
        value = self.value(node.node, names)
        if not _is_number(value):
            raise PromptFailed("only a number has a sign")
        return -value if isinstance(node, nodes.Neg) else value


def _bounded(number: float) -> float:
    """Return the number. Raises PromptFailed for one so large that a loop could fill the memory."""
    if not math.isfinite(number) or (isinstance(number, int) and abs(number) > LARGEST_INTEGER):
        raise PromptFailed("a number is too large")
    return number


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _member(whole: Any, key: Any) -> Any:
    """Look up a key of an object or an index of a list or text; UNDEFINED for all else."""
    if isinstance(whole, dict):
        return whole.get(key, UNDEFINED) if isinstance(key, str) else UNDEFINED
    if isinstance(whole, list | str) and type(key) is int and -len(whole) <= key < len(whole):
        return whole[key]
    return UNDEFINED


@dataclass(frozen=True)
class Operation:
    """A filter or a test. takes: the fewest and the most arguments, beside the value itself."""

    call: Callable[..., Any]
    takes: tuple[int, int] = (0, 0)


def _length(filling: Filling, value: Any) -> int:
    if value is UNDEFINED:
        return 0
    if isinstance(value, str | list | dict):
        return len(value)
    raise PromptFailed("only a list, an object or a text has a length")


def _default(filling: Filling, value: Any, other: Any = "", or_empty: Any = False) -> Any:
    return other if value is UNDEFINED or (or_empty and not value) else value


def _joined(filling: Filling, value: Any, between: Any = "") -> str:
    return filling.join(filling.elements_of(value), filling.text(between))


def _replaced(filling: Filling, value: Any, old: Any, new: Any) -> str:
    text, old, new = filling.text(value), filling.text(old), filling.text(new)
    filling.pass_over(8 * len(text))
    filling.pass_over(text.count(old) * len(new))
    return text.replace(old, new)


def _changed(change: Callable[[str], str]) -> Callable[[Filling, Any], str]:
    def changed(filling: Filling, value: Any) -> str:
        text = filling.text(value)
        filling.pass_over(4 * len(text))  # letters whose case is more than one letter are slow
        return change(text)

    return changed


def _is(types: type | tuple[type, ...]) -> Operation:
    return Operation(lambda filling, value: isinstance(value, types))


FILTERS: dict[str, Operation] = {
    "count": Operation(_length),
    "d": Operation(_default, (0, 2)),
    "default": Operation(_default, (0, 2)),
    "first": Operation(lambda filling, value: _member(value, 0)),
    "join": Operation(_joined, (0, 1)),
    "last": Operation(lambda filling, value: _member(value, -1)),
    "length": Operation(_length),
    "lower": Operation(_changed(str.lower)),
    "replace": Operation(_replaced, (2, 2)),
    "safe": Operation(lambda filling, value: value),
    "string": Operation(Filling.text),
    "tojson": Operation(Filling.json),
    "trim": Operation(_changed(str.strip)),
    "upper": Operation(_changed(str.upper)),
}
TESTS: dict[str, Operation] = {
    "defined": Operation(lambda filling, value: value is not UNDEFINED),
    "mapping": _is(dict),
    "none": _is(type(None)),
    "number": _is((int, float)),
    "sequence": _is((str, list)),
    "string": _is(str),
    "undefined": _is(_Undefined),
}
ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
}
RECKONINGS: dict[type[nodes.Node], Callable[[Any, Any], Any]] = {
    nodes.Add: operator.add,
    nodes.Mul: operator.mul,
    nodes.Sub: operator.sub,
}
STATEMENTS: dict[type[nodes.Node], Callable[..., None]] = {
    nodes.Assign: Filling.assign,
    nodes.For: Filling.loop,
    nodes.If: Filling.choose,
    nodes.Output: Filling.output,
}
VALUES: dict[type[nodes.Node], Callable[..., Any]] = {
    **dict.fromkeys(RECKONINGS, Filling.arithmetic),
    nodes.And: Filling.conjunction,
    nodes.Compare: Filling.compared,
    nodes.Concat: Filling.joined,
    nodes.CondExpr: Filling.conditional,
    nodes.Const: Filling.constant,
    nodes.Filter: Filling.filtered,
    nodes.Getattr: Filling.member,
    nodes.Getitem: Filling.item,
    nodes.List: Filling.elements,
    nodes.Name: Filling.name,
    nodes.Neg: Filling.signed,
    nodes.Not: Filling.negation,
    nodes.Or: Filling.disjunction,
    nodes.Pos: Filling.signed,
    nodes.TemplateData: Filling.constant,
    nodes.Test: Filling.tested,
    nodes.Tuple: Filling.elements,
}
KNOWN = {*STATEMENTS, *VALUES, nodes.Operand, nodes.Slice}
