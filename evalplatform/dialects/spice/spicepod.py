"""Read a spicepod: datasets, models, embeddings and evals as declarations of the core."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from apps.datasets.row_readers import FORMATS, ReadingOptions, RowFile, format_of
from apps.errors import Invalid
from apps.evaluations.services.declarations import (
    Declarations,
    DeclaredDataset,
    DeclaredEvaluation,
)
from apps.evaluations.services.named_runs import UNFIT_FOR_A_NAME
from apps.inference.declared_models import DeclaredModel
from apps.strict_json import BadJSON, parse_json
from evalplatform.dialects.spice.components import (
    MODEL_LENGTH,
    NAME_LENGTH,
    SECTIONS,
    Component,
    check_count,
    check_head,
    check_names,
    read_components,
)
from evalplatform.dialects.spice.yaml_nodes import BadYaml, Node, read_yaml

COLUMNS = ("input", "ideal")
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
    """Read the declarations, checked as far as that needs no account.

    Raises Invalid, which names the line and the component, at the first fault.
    """
    try:
        root = read_yaml(document)
    except BadYaml as error:
        raise Invalid(f"The spicepod cannot be read: {error}.") from error
    if not isinstance(root.value, dict):
        raise Invalid("A spicepod is a mapping of sections: datasets, models, embeddings, evals.")
    warnings: list[str] = []
    check_head(root.value, warnings)
    components = {
        section: list(read_components(root.value, section, warnings)) for section in SECTIONS
    }
    check_count(components)
    check_names(components)
    declarations = Declarations(
        datasets=tuple(_dataset(component, find_file) for component in components["datasets"]),
        models=(
            *(_model(component) for component in components["models"]),
            *(_embedding(component) for component in components["embeddings"]),
        ),
        evaluations=tuple(_evaluation(component) for component in components["evals"]),
    )
    for component in (component for section in SECTIONS for component in components[section]):
        component.warn_of_unknown_members()
    return Spicepod(declarations, tuple(warnings))


def _dataset(component: Component, find_file: FindFile) -> DeclaredDataset:
    origin = component.required("from")
    kind, _, path = component.text("from", origin).partition(":")
    path = path.removeprefix("//")
    if kind != "file" or not path:
        component.refuse("from must be file:<path>: only files are read here", origin)
    params = component.params()
    for key, node in params.items():
        if key != "file_format":
            component.warn(f"params.{key} is ignored", node)
    given = params.get("file_format")
    if given is not None and given.value is not None:
        format_name = component.text("file_format", given).lower()
        if format_name not in FORMATS:
            component.refuse(f"file_format must be one of {', '.join(FORMATS)}", given)
    else:
        format_name = ""
        if not format_of(path):
            component.refuse(
                f"the ending of {path!r} tells no format: give params.file_format, one of "
                f"{', '.join(FORMATS)}",
                origin,
            )
    try:
        opener = find_file(path)
    except OSError as error:
        component.refuse(f"{path}: {error.strerror or error}", origin)
    except Invalid as error:
        component.refuse(" ".join(error.messages), origin)
    return DeclaredDataset(
        component.name, RowFile(path, opener, ReadingOptions(format_name)), COLUMNS
    )


def _source(component: Component) -> str:
    """Return the <id> of `from: openai:<id>`."""
    origin = component.required("from")
    provider, _, source = component.text("from", origin).partition(":")
    if provider != "openai":
        component.refuse(
            f"the provider {provider[:60]!r} is not supported: from must be openai:<id>, which any "
            "OpenAI-compatible server may serve",
            origin,
        )
    if not 0 < len(source) <= MODEL_LENGTH:
        component.refuse("from must be openai:<id>", origin)
    return source


def _model(component: Component) -> DeclaredModel:
    prompt, is_template = "", False
    fields: dict[str, Any] = {}
    for key, node in component.params().items():
        if node.value is None:
            continue
        if key == "system_prompt":
            prompt = component.text("params.system_prompt", node)
        elif key == "parameterized_prompt":
            if node.text not in {"enabled", "disabled"}:
                component.refuse("params.parameterized_prompt must be enabled or disabled", node)
            is_template = node.text == "enabled"
        elif key in CONNECTION_PARAMS:
            component.warn(
                f"params.{key} is ignored: the endpoint knows how to reach the model", node
            )
        elif _field_of(key):
            fields[_field_of(key)] = _field_value(component, key, node)
        else:
            component.warn(f"params.{key} is ignored", node)
    return DeclaredModel(
        component.name,
        _source(component),
        system_prompt=prompt,
        prompt_is_template=is_template,
        params=fields,
    )


def _field_of(param: str) -> str:
    """Return the field of a request that a param sets by default; empty for none."""
    name = param.removeprefix(FIELD_PREFIX) if param.startswith(FIELD_PREFIX) else ""
    return "" if name in REQUEST_FIELDS else name


def _field_value(component: Component, key: str, node: Node) -> Any:
    value = node.plain()
    if key != "openai_response_format":
        return value
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except BadJSON as error:
            component.refuse(f"params.{key} is not JSON: {error}", node)
    if not isinstance(value, dict):
        component.refuse(f"params.{key} must be an object, or JSON of one", node)
    return value


def _embedding(component: Component) -> DeclaredModel:
    for key, node in component.params().items():
        component.warn(f"params.{key} is ignored", node)
    return DeclaredModel(component.name, _source(component), is_embedding=True)


def _evaluation(component: Component) -> DeclaredEvaluation:
    name = component.node.value["name"]
    if UNFIT_FOR_A_NAME.search(component.name):
        component.refuse("a name in an address contains neither / nor control characters", name)
    if FOREIGN_ID.fullmatch(component.name):
        component.refuse("a name cannot be eval_ and 32 hexadecimal digits: that is an id", name)
    description = component.member("description")
    dataset = component.required("dataset")
    scorers = component.required("scorers")
    if not isinstance(scorers.value, list):
        component.refuse("scorers must be a list", scorers)
    for scorer in scorers.value:
        if scorer.value is None or isinstance(scorer.value, list | dict):
            component.refuse("a scorer is a name", scorer)
    return DeclaredEvaluation(
        component.name,
        component.short_text("dataset", dataset, NAME_LENGTH),
        tuple(scorer.text for scorer in scorers.value),
        "" if description is None else component.text("description", description),
    )
