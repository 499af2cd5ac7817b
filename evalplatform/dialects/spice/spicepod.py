"""Read a spicepod: datasets, models, embeddings and evals as declarations of the core."""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Protocol, TypeVar
from urllib.parse import urlsplit

from apps.datasets.row_readers import FORMATS, ReadingOptions, RowFile, format_of
from apps.errors import Invalid
from apps.evaluations.services.declarations import (
    LEFT_OUT,
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
from evalplatform.dialects.spice.views import FORM, BadView, Selection, read_selection
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

D = TypeVar("D", DeclaredDataset, DeclaredModel)
Opener = Callable[[], BinaryIO]


class Sources(Protocol):
    """The files that a spicepod may name."""

    def find(self, path: str) -> Opener:
        """Return how to open the file of `from: file:…`.

        Raises OSError, or Invalid for one that is not there to be read.
        """

    def fetch(self, url: str) -> Opener:
        """Return how to open what an https:// URL gives; opening it raises OSError."""


@dataclass(frozen=True)
class Spicepod:
    declarations: Declarations
    warnings: tuple[str, ...]


def read_spicepod(document: bytes, sources: Sources) -> Spicepod:
    """Read the declarations, checked as far as that needs no account.

    A dataset or a model that cannot be loaded and that no eval uses is left out with a warning.
    Raises Invalid, which names the line and the component, at the first other fault.
    """
    try:
        root = read_yaml(document)
    except BadYaml as error:
        raise Invalid(f"The spicepod cannot be read: {error}.") from error
    if not isinstance(root.value, dict):
        raise Invalid(
            "A spicepod is a mapping of sections: datasets, views, models, embeddings, evals."
        )
    warnings: list[str] = []
    check_head(root.value, warnings)
    components = {
        section: list(read_components(root.value, section, warnings)) for section in SECTIONS
    }
    check_count(components)
    check_names(components)
    evaluations = tuple(_evaluation(component) for component in components["evals"])
    selections = [(component, _selection(component)) for component in components["views"]]
    used = _Used(evaluations, selections, components["datasets"])
    datasets = _loaded(
        components["datasets"], used.datasets, lambda one: _dataset(one, sources), warnings
    )
    declarations = Declarations(
        datasets=(*datasets, *_views(selections, datasets, used, warnings)),
        models=(
            *_loaded(components["models"], used.scorers, _model, warnings),
            *_loaded(components["embeddings"], used.scorers, _embedding, warnings),
        ),
        evaluations=evaluations,
    )
    for component in (component for section in SECTIONS for component in components[section]):
        component.warn_of_unknown_members()
    return Spicepod(declarations, tuple(warnings))


class _Used:
    """The names of datasets, views and scorers that evals of the file use."""

    def __init__(
        self,
        evaluations: Iterable[DeclaredEvaluation],
        selections: Iterable[tuple[Component, Selection]],
        datasets: Iterable[Component],
    ) -> None:
        self.scorers = {name for one in evaluations for name in one.scorers}
        self.datasets = {one.dataset_name for one in evaluations}
        names = [component.name for component in datasets]
        self.sources = {
            view.name: _source_of(view, selection, names) for view, selection in selections
        }
        self.datasets |= {source for view, source in self.sources.items() if view in self.datasets}


def _loaded(
    components: Iterable[Component],
    used: Container[str],
    load: Callable[[Component], D],
    warnings: list[str],
) -> list[D]:
    """Load each component; one that cannot be and that nothing uses is left out."""
    done: list[D] = []
    for component in components:
        component.required("from")
        try:
            loaded = load(component)
        except Invalid as error:
            if component.name in used:
                raise
            warnings.append(f"{' '.join(error.messages)}: {LEFT_OUT}")
        else:
            done.append(replace(loaded, optional=component.name not in used))
    return done


def _selection(component: Component) -> Selection:
    sql = component.required("sql")
    try:
        return read_selection(component.text("sql", sql))
    except BadView as error:
        component.refuse(f"the view cannot be loaded: {error}", sql)


def _source_of(view: Component, selection: Selection, names: Sequence[str]) -> str:
    """Return the dataset of the file that a view selects from. Raises Invalid."""
    written, is_quoted = selection.table
    found = written if written in names else ""
    if not found and not is_quoted:
        found = next((name for name in names if name.lower() == written.lower()), "")
    if not found:
        view.refuse(f"{written[:60]!r} is no dataset of this file: {FORM}", view.member("sql"))
    return found


def _views(
    selections: Iterable[tuple[Component, Selection]],
    datasets: Iterable[DeclaredDataset],
    used: _Used,
    warnings: list[str],
) -> Iterator[DeclaredDataset]:
    loaded = {one.name: one for one in datasets}
    for view, selection in selections:
        source = loaded.get(used.sources[view.name])
        if source is None:
            warnings.append(f"{view.label}: its dataset {used.sources[view.name]!r} is left out")
            continue
        yield DeclaredDataset(
            view.name,
            source.file,
            COLUMNS,
            fields=selection.columns,
            limit=selection.limit,
            optional=view.name not in used.datasets,
        )


def _dataset(component: Component, sources: Sources) -> DeclaredDataset:
    origin = component.required("from")
    written = component.text("from", origin)
    kind, _, path = written.partition(":")
    path = path.removeprefix("//")
    if kind not in {"file", "https"} or not path:
        component.refuse(
            "from must be file:<path> or https://<address>: nothing else is read here", origin
        )
    if kind == "https":
        # Its ending is the path's, whatever is asked behind it.
        path = urlsplit(written).path
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
        opener = sources.fetch(written) if kind == "https" else sources.find(path)
    except OSError as error:
        component.refuse(f"{path}: {error.strerror or error}", origin)
    except Invalid as error:
        component.refuse(" ".join(error.messages), origin)
    return DeclaredDataset(
        component.name,
        RowFile(written if kind == "https" else path, opener, ReadingOptions(format_name)),
        COLUMNS,
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
