"""Turn a registry's classes into criteria, and its samples into rows.

Source: evals/elsuite of the repository openai/evals.
"""

import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from apps.evaluations.services.evaluations import NewCriterion
from evalplatform.dialects.openai.registry.registry_files import NotLoaded, Registry, RegistryEval

PROMPT, ANSWER, IDEAL = "input", "{{ sample.output_text }}", "{{ item.ideal }}"
SIDES = {"input": ANSWER, "reference": IDEAL}
PARTS_OF_A_TEXT = {"system": "System", "user": "User", "assistant": "Assistant"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """The criteria of an eval, and how a sample of its file becomes a row.

    needed: members that each sample has.
    """

    criteria: list[NewCriterion]
    needed: tuple[str, ...] = (PROMPT, "ideal")
    change: Callable[[Row], Row] = field(default=lambda row: row)

    def rows(self, registry: Registry, one: RegistryEval) -> Iterator[Row]:
        """Yield the rows, each an item. Raises NotLoaded."""
        for number, sample in enumerate(registry.rows(one.args.get("samples_jsonl")), start=1):
            renamed = _renamed(sample, one.args.get("samples_renamings"))
            for name in self.needed:
                if name not in renamed:
                    raise NotLoaded(f"row {number:,} of its data has no {name!r}")
            yield self.change(renamed)


def plan_of(registry: Registry, one: RegistryEval, judge: str) -> Plan:
    """Make the plan of an eval. judge: the model that judges, "" for none. Raises NotLoaded."""
    make = CLASSES.get(one.kind.replace(":", ".").removeprefix("evals.elsuite."))
    if make is None:
        raise NotLoaded(f"its class {one.kind} is a program of its own")
    return make(registry, one, judge)


def _match(registry: Registry, one: RegistryEval, judge: str) -> Plan:
    """The reply begins with an ideal. Examples are put before the last message."""
    criterion = NewCriterion("match", "match", {**SIDES, "prefix": True})
    count = one.args.get("num_few_shot") or 0
    if not isinstance(count, int) or count < 1:
        return Plan([criterion])
    shots = []
    for number, row in enumerate(registry.rows(one.args.get("few_shot_jsonl"))):
        if number == count:
            break
        if not isinstance(row.get("sample"), list):
            raise NotLoaded("an example of its few_shot_jsonl has no sample")
        shots += row["sample"]

    def with_examples(row: Row) -> Row:
        asked = row[PROMPT]
        if not isinstance(asked, list):
            raise NotLoaded("examples need a list of messages as input")
        return {**row, PROMPT: [*asked[:-1], *shots, *asked[-1:]]}

    return Plan([criterion], change=with_examples)


def _includes(registry: Registry, one: RegistryEval, judge: str) -> Plan:
    ignores = {"ignore_case": True} if one.args.get("ignore_case") else {}
    return Plan([NewCriterion("includes", "includes", {**SIDES, **ignores})])


def _fuzzy_match(registry: Registry, one: RegistryEval, judge: str) -> Plan:
    return Plan([NewCriterion("fuzzy_match", "fuzzy_match", SIDES)])


def _json_match(registry: Registry, one: RegistryEval, judge: str) -> Plan:
    def with_one_ideal(row: Row) -> Row:
        ideal = row["ideal"]
        if isinstance(ideal, list):
            if len(ideal) != 1:
                raise NotLoaded("a row has several ideals, which json_match takes for one array")
            [ideal] = ideal
        return {**row, "ideal": ideal}

    return Plan([NewCriterion("json_match", "json_match", SIDES)], change=with_one_ideal)


def _judged(registry: Registry, one: RegistryEval, judge: str) -> Plan:
    """A model chooses one of some labels, of which each counts 1 or 0."""
    args = one.args
    name = args.get("modelgraded_spec") or args.get("modelgraded_spec_file")
    if args.get("metaeval"):
        raise NotLoaded("it judges its judge (metaeval)")
    if args.get("multicomp_n", 1) != 1:
        raise NotLoaded("it compares several replies (multicomp_n)")
    spec = registry.spec(str(name))
    outputs = spec.get("input_outputs")
    if not isinstance(outputs, dict) or len(outputs) != 1:
        raise NotLoaded(f"{name} asks for several replies (input_outputs)")
    [(asked, answer)] = outputs.items()
    labels, passing = _labels(str(name), spec)
    if not judge:
        raise NotLoaded("a model judges it: name one with --judge")
    given = {**_mapping(spec.get("args")), **_mapping(args.get("modelgraded_spec_args"))}
    messages = _messages(spec.get("prompt"))
    first = next(registry.rows(args.get("samples_jsonl")), {})
    known = _renamed(first, args.get("samples_renamings")).keys()
    names = {name for message in messages for name in _placeholders(message["content"])}
    if asked != PROMPT and PROMPT in names:
        raise NotLoaded(f"{name} asks {asked!r} and shows its judge another {PROMPT!r}")
    free = names - {answer} - known
    if missing := sorted(free - given.keys()):
        raise NotLoaded(f"{name} needs {missing[0]!r}, which its rows do not have")
    texts = {each: f"{{{{ item.{each} }}}}" for each in names & known} | {
        asked: f"{{{{ item.{PROMPT}_text }}}}",
        answer: ANSWER,
    }
    criteria = [
        NewCriterion(
            "label_model",
            metric or "choice",
            {
                "model": judge,
                "input": [
                    {**message, "content": _filled(message["content"], {**texts, **words})}
                    for message in messages
                ],
                "labels": labels,
                "passing_labels": passing,
            },
        )
        for metric, words in _combined({each: given[each] for each in sorted(free)})
    ]

    def with_text(row: Row) -> Row:
        rest = {key: value for key, value in row.items() if key not in {asked, answer}}
        return {**rest, PROMPT: row[asked], f"{PROMPT}_text": _as_text(row[asked])}

    return Plan(criteria, (asked, *sorted(names & known - {answer, asked})), with_text)


CLASSES: dict[str, Callable[[Registry, RegistryEval, str], Plan]] = {
    "basic.match.Match": _match,
    "basic.includes.Includes": _includes,
    "basic.fuzzy_match.FuzzyMatch": _fuzzy_match,
    "basic.json_match.JsonMatch": _json_match,
    "modelgraded.classify.ModelBasedClassify": _judged,
}


def _renamed(row: Row, names: Any) -> Row:
    if not isinstance(names, dict):
        return row
    return {str(names.get(key, key)): value for key, value in row.items()}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _labels(name: str, spec: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the labels of a judge, and those that count 1."""
    labels, scores = spec.get("choice_strings"), spec.get("choice_scores")
    if isinstance(labels, str) and labels.startswith("from_n"):
        raise NotLoaded(f"{name} compares several replies (choice_strings: {labels})")
    if not isinstance(labels, str | list) or not labels:
        raise NotLoaded(f"{name} has no choice_strings")
    labels = [str(label) for label in labels]
    if not isinstance(scores, dict):
        raise NotLoaded(f"{name} does not say which of its choices are right (choice_scores)")
    known = {str(label): score for label, score in scores.items()}
    if not set(known.values()) <= {0, 1} or not set(labels) <= known.keys():
        raise NotLoaded(f"the choice_scores of {name} are other than 0 and 1")
    passing = [label for label in labels if known[label] == 1]
    if not passing:
        raise NotLoaded(f"none of the choices of {name} counts 1")
    return labels, passing


def _messages(prompt: Any) -> list[dict[str, Any]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if isinstance(prompt, list) and all(
        isinstance(one, dict) and isinstance(one.get("content"), str) for one in prompt
    ):
        return [{"role": one.get("role", "user"), "content": one["content"]} for one in prompt]
    raise NotLoaded("the judge's prompt is neither a text nor messages")


def _parsed(text: str) -> list[tuple[str, str | None]]:
    """Split a text at its {names}; two braces stand for one."""
    try:
        return [(literal, name) for literal, name, _, _ in string.Formatter().parse(text)]
    except ValueError as error:
        raise NotLoaded(f"the judge's prompt cannot be read: {error}") from None


def _placeholders(text: str) -> set[str]:
    return {name for _, name in _parsed(text) if name}


def _filled(text: str, words: Mapping[str, str]) -> str:
    parts = _parsed(text)
    if any("{{" in literal for literal, _ in parts):
        raise NotLoaded("the judge's prompt has two braces, which are a template here")
    return "".join(literal + (words[name] if name else "") for literal, name in parts)


def _combined(given: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each combination of words: a metric's name, and the text of each placeholder."""
    choices = [
        list(value.items()) if isinstance(value, dict) else [("", value)]
        for value in given.values()
    ]
    for chosen in product(*choices):
        metric = ":".join(str(name) for name, _ in chosen if name)
        texts = dict(zip(given, (str(text) for _, text in chosen), strict=True))
        yield metric if any(len(one) > 1 for one in choices) else "", texts


def _as_text(asked: Any) -> Any:
    """Write messages as a text for a judge; one message is its content."""
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        return asked
    contents = [str(one.get("content", "")) for one in asked]
    if len(contents) == 1:
        return contents[0]
    roles = [str(one.get("name") or one.get("role") or "") for one in asked]
    return "\n".join(
        f"{PARTS_OF_A_TEXT.get(role, role)}: {content}"
        for role, content in zip(roles, contents, strict=True)
    )
