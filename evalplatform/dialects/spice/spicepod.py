"""Read a spicepod: datasets, models, embeddings and evals as declarations of the core."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

from apps.datasets.row_readers import FORMATS, RowFile, format_of
from apps.errors import Invalid
from apps.evaluations.services.declarations import (
    Declarations,
    DeclaredDataset,
    DeclaredEvaluation,
)
from apps.evaluations.services.named_runs import UNFIT_FOR_A_NAME
from apps.inference.declared_models import DeclaredModel
from apps.strict_json import BadJSON, parse_json
from evalplatform.dialects.spice.yaml_nodes import BadYaml, Node, read_yaml

NAME_LENGTH = 200
MODEL_LENGTH = 300
MAX_COMPONENTS = 500
COLUMNS = ("input", "ideal")
SECTIONS = ("datasets", "models", "embeddings", "evals")
HEAD = frozenset(("version", "kind", "name"))
# How to reach a provider is the endpoint's business here, and its key never comes from a file.
CONNECTION_PARAMS = frozenset(
    ("openai_api_key", "openai_org_id", "openai_project_id", "openai_usage_tier", "endpoint")
)
# What a request says of itself.
REQUEST_FIELDS = frozenset(("model", "messages", "stream", "stream_options", "n"))
FIELD_PREFIX = "openai_"
# A name of this shape is an id in OpenAI's dialect, which has the same route.
FOREIGN_ID = re.compile(r"eval_[0-9a-f]{32}", re.IGNORECASE)

# The path of `from: file:…` -> how to open the file. Raises OSError, or Invalid for one that is
# not there to be read.
FindFile = Callable[[str], Callable[[], BinaryIO]]


@dataclass(frozen=True)
class Spicepod:
    declarations: Declarations
    warnings: tuple[str, ...]


def read_spicepod(document: bytes, find_file: FindFile) -> Spicepod:
    """What the file declares, checked as far as it can be without the account.

    Raises Invalid, which names the line and the component, at the first thing that is wrong.
    """
    try:
        root = read_yaml(document)
    except BadYaml as error:
        raise Invalid(f"The spicepod cannot be read: {error}.") from error
    if not isinstance(root.value, dict):
        raise Invalid("A spicepod is a mapping of sections: datasets, models, embeddings, evals.")
    warnings: list[str] = []
    _look_at_head(root.value, warnings)
    parts = {section: list(_parts(root.value, section, warnings)) for section in SECTIONS}
    _check_count(parts)
    _check_names(parts)
    declarations = Declarations(
        datasets=tuple(_dataset(part, find_file) for part in parts["datasets"]),
        models=(
            *(_model(part) for part in parts["models"]),
            *(_embedding(part) for part in parts["embeddings"]),
        ),
        evaluations=tuple(_evaluation(part) for part in parts["evals"]),
    )
    for part in (part for section in SECTIONS for part in parts[section]):
        part.warn_of_unknown_members()
    return Spicepod(declarations, tuple(warnings))


def _look_at_head(sections: dict[str, Node], warnings: list[str]) -> None:
    if "views" in sections:
        raise Invalid(
            f"{_place(sections['views'])}views cannot be loaded: they are SQL over other datasets, "
            "and there is no SQL here. Load their rows as a dataset."
        )
    kind = sections.get("kind")
    if kind is not None and kind.value != "Spicepod":
        warnings.append(f"{_place(kind)}kind is {kind.text!r}, not 'Spicepod'")
    warnings.extend(
        f"{_place(node)}the section {name!r} is ignored"
        for name, node in sections.items()
        if name not in HEAD and name not in SECTIONS
    )


def _place(node: Node) -> str:
    return f"line {node.line}: " if node.line else ""


@dataclass
class _Part:
    """A component of a section: its members are taken one by one, the rest is warned of."""

    label: str
    node: Node
    warnings: list[str]
    name: str = ""
    known: set[str] = field(default_factory=lambda: {"dependsOn"})

    def refuse(self, message: str, node: Node | None = None) -> NoReturn:
        raise Invalid(f"{_place(node or self.node)}{self.label}: {message}", path=self.label)

    def warn(self, message: str, node: Node) -> None:
        self.warnings.append(f"{_place(node)}{self.label}: {message}")

    def member(self, key: str) -> Node | None:
        """What the file gives; null is nothing."""
        self.known.add(key)
        node = self.node.value.get(key)
        return None if node is None or node.value is None else node

    def required(self, key: str) -> Node:
        node = self.member(key)
        if node is None:
            self.refuse(f"{key} is missing")
        return node

    def text(self, key: str, node: Node) -> str:
        """A text as it is written: 007, no and 2024-01-01 are names like others."""
        if isinstance(node.value, list | dict):
            self.refuse(f"{key} must be a text", node)
        return node.text

    def short_text(self, key: str, node: Node, length: int) -> str:
        text = self.text(key, node)
        if not 0 < len(text) <= length:
            self.refuse(f"{key} must have 1 to {length} characters, not {len(text):,}", node)
        return text

    def params(self) -> dict[str, Node]:
        node = self.member("params")
        if node is None:
            return {}
        if not isinstance(node.value, dict):
            self.refuse("params must be a mapping", node)
        return node.value

    def warn_of_unknown_members(self) -> None:
        for key, node in self.node.value.items():
            if key not in self.known:
                self.warn(f"{key} is ignored", node)


def _parts(sections: dict[str, Node], section: str, warnings: list[str]) -> Iterator[_Part]:
    node = sections.get(section)
    if node is None or node.value is None:
        return
    if not isinstance(node.value, list):
        raise Invalid(f"{_place(node)}{section} must be a list.", path=section)
    for index, entry in enumerate(node.value):
        part = _Part(f"{section}[{index}]", entry, warnings)
        if not isinstance(entry.value, dict):
            part.refuse("a component is a mapping")
        if "ref" in entry.value:
            part.refuse("ref is not supported: write the component here")
        length = MODEL_LENGTH if section in {"models", "embeddings"} else NAME_LENGTH
        part.name = part.short_text("name", part.required("name"), length)
        part.label += f" {part.name!r}"
        yield part


def _check_count(parts: dict[str, list[_Part]]) -> None:
    # They all appear in one transaction, which keeps every other writer waiting.
    if sum(map(len, parts.values())) > MAX_COMPONENTS:
        raise Invalid(f"A spicepod may have {MAX_COMPONENTS:,} components: load it as several.")


def _check_names(parts: dict[str, list[_Part]]) -> None:
    """A name stands for one thing; models and embeddings are called in the same way."""
    for sections in (("datasets",), ("models", "embeddings"), ("evals",)):
        seen: dict[str, _Part] = {}
        for part in (part for section in sections for part in parts[section]):
            if part.name in seen:
                part.refuse(f"the name is that of {seen[part.name].label} too")
            seen[part.name] = part


def _dataset(part: _Part, find_file: FindFile) -> DeclaredDataset:
    origin = part.required("from")
    kind, _, path = part.text("from", origin).partition(":")
    path = path.removeprefix("//")
    if kind != "file" or not path:
        part.refuse("from must be file:<path>: only files are read here", origin)
    params = part.params()
    for key, node in params.items():
        if key != "file_format":
            part.warn(f"params.{key} is ignored", node)
    given = params.get("file_format")
    if given is not None and given.value is not None:
        format_name = part.text("file_format", given).lower()
        if format_name not in FORMATS:
            part.refuse(f"file_format must be one of {', '.join(FORMATS)}", given)
    else:
        format_name = format_of(path) or ""
        if not format_name:
            part.refuse(
                f"the ending of {path!r} tells no format: give params.file_format, one of "
                f"{', '.join(FORMATS)}",
                origin,
            )
    try:
        opener = find_file(path)
    except OSError as error:
        part.refuse(f"{path}: {error.strerror or error}", origin)
    except Invalid as error:
        part.refuse(" ".join(error.messages), origin)
    return DeclaredDataset(part.name, RowFile(path, format_name, opener), COLUMNS)


def _source(part: _Part) -> str:
    """The <id> of `from: openai:<id>`."""
    origin = part.required("from")
    provider, _, source = part.text("from", origin).partition(":")
    if provider != "openai":
        part.refuse(
            f"the provider {provider[:60]!r} is not supported: from must be openai:<id>, which any "
            "OpenAI-compatible server may serve",
            origin,
        )
    if not 0 < len(source) <= MODEL_LENGTH:
        part.refuse("from must be openai:<id>", origin)
    return source


def _model(part: _Part) -> DeclaredModel:
    prompt, is_template = "", False
    fields: dict[str, Any] = {}
    for key, node in part.params().items():
        if node.value is None:
            continue
        if key == "system_prompt":
            prompt = part.text("params.system_prompt", node)
        elif key == "parameterized_prompt":
            if node.text not in {"enabled", "disabled"}:
                part.refuse("params.parameterized_prompt must be enabled or disabled", node)
            is_template = node.text == "enabled"
        elif key in CONNECTION_PARAMS:
            part.warn(f"params.{key} is ignored: the endpoint knows how to reach the model", node)
        elif _field_of(key):
            fields[_field_of(key)] = _field_value(part, key, node)
        else:
            part.warn(f"params.{key} is ignored", node)
    return DeclaredModel(
        part.name,
        _source(part),
        system_prompt=prompt,
        prompt_is_template=is_template,
        params=fields,
    )


def _field_of(param: str) -> str:
    """The field of a request that a param sets by default; empty for none."""
    name = param.removeprefix(FIELD_PREFIX) if param.startswith(FIELD_PREFIX) else ""
    return "" if name in REQUEST_FIELDS else name


def _field_value(part: _Part, key: str, node: Node) -> Any:
    value = node.plain()
    if key != "openai_response_format":
        return value
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except BadJSON as error:
            part.refuse(f"params.{key} is not JSON: {error}", node)
    if not isinstance(value, dict):
        part.refuse(f"params.{key} must be an object, or JSON of one", node)
    return value


def _embedding(part: _Part) -> DeclaredModel:
    for key, node in part.params().items():
        part.warn(f"params.{key} is ignored", node)
    return DeclaredModel(part.name, _source(part), is_embedding=True)


def _evaluation(part: _Part) -> DeclaredEvaluation:
    name = part.node.value["name"]
    if UNFIT_FOR_A_NAME.search(part.name):
        part.refuse("a name in an address contains neither / nor control characters", name)
    if FOREIGN_ID.fullmatch(part.name):
        part.refuse("a name cannot be eval_ and 32 hexadecimal digits: that is an id", name)
    description = part.member("description")
    dataset = part.required("dataset")
    scorers = part.required("scorers")
    if not isinstance(scorers.value, list):
        part.refuse("scorers must be a list", scorers)
    for scorer in scorers.value:
        if scorer.value is None or isinstance(scorer.value, list | dict):
            part.refuse("a scorer is a name", scorer)
    return DeclaredEvaluation(
        part.name,
        part.short_text("dataset", dataset, NAME_LENGTH),
        tuple(scorer.text for scorer in scorers.value),
        "" if description is None else part.text("description", description),
    )
