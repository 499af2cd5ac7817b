"""Read the sections of a spicepod as components, whose members are taken one by one."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from apps.errors import Invalid
from evalplatform.dialects.spice.yaml_nodes import Node

NAME_LENGTH = 200
MODEL_LENGTH = 300
MAX_COMPONENTS = 500
SECTIONS = ("datasets", "views", "models", "embeddings", "evals")
HEAD = frozenset(("version", "kind", "name"))


def check_head(sections: dict[str, Node], warnings: list[str]) -> None:
    """Warn of a foreign kind and of sections that are ignored."""
    kind = sections.get("kind")
    if kind is not None and kind.value != "Spicepod":
        warnings.append(f"{_line_of(kind)}kind is {kind.text!r}, not 'Spicepod'")
    warnings.extend(
        f"{_line_of(node)}the section {name!r} is ignored"
        for name, node in sections.items()
        if name not in HEAD and name not in SECTIONS
    )


def _line_of(node: Node) -> str:
    return f"line {node.line}: " if node.line else ""


@dataclass
class Component:
    """A component of a section. Members are taken one by one; the rest is warned of at the end.

    label: its place and name, for messages. known: the members taken so far.
    """

    label: str
    node: Node
    warnings: list[str]
    name: str = ""
    known: set[str] = field(default_factory=lambda: {"dependsOn"})

    def refuse(self, message: str, node: Node | None = None) -> NoReturn:
        raise Invalid(f"{_line_of(node or self.node)}{self.label}: {message}", path=self.label)

    def warn(self, message: str, node: Node) -> None:
        self.warnings.append(f"{_line_of(node)}{self.label}: {message}")

    def member(self, key: str) -> Node | None:
        """Return a member; None where it is missing or null."""
        self.known.add(key)
        node = self.node.value.get(key)
        return None if node is None or node.value is None else node

    def required(self, key: str) -> Node:
        node = self.member(key)
        if node is None:
            self.refuse(f"{key} is missing")
        return node

    def text(self, key: str, node: Node) -> str:
        """Return a text as it is written: 007, no and 2024-01-01 are names like others."""
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


def read_components(
    sections: dict[str, Node], section: str, warnings: list[str]
) -> Iterator[Component]:
    node = sections.get(section)
    if node is None or node.value is None:
        return
    if not isinstance(node.value, list):
        raise Invalid(f"{_line_of(node)}{section} must be a list.", path=section)
    for index, entry in enumerate(node.value):
        component = Component(f"{section}[{index}]", entry, warnings)
        if not isinstance(entry.value, dict):
            component.refuse("a component is a mapping")
        if "ref" in entry.value:
            component.refuse("ref is not supported: write the component here")
        length = MODEL_LENGTH if section in {"models", "embeddings"} else NAME_LENGTH
        component.name = component.short_text("name", component.required("name"), length)
        component.label += f" {component.name!r}"
        yield component


def check_count(components: dict[str, list[Component]]) -> None:
    # They all appear in one transaction, which keeps every other writer waiting.
    if sum(map(len, components.values())) > MAX_COMPONENTS:
        raise Invalid(f"A spicepod may have {MAX_COMPONENTS:,} components: load it as several.")


def check_names(components: dict[str, list[Component]]) -> None:
    """Refuse a name that two components of one kind have.

    Datasets and views are one kind, models and embeddings another.
    """
    for sections in (("datasets", "views"), ("models", "embeddings"), ("evals",)):
        seen: dict[str, Component] = {}
        for component in (component for section in sections for component in components[section]):
            if component.name in seen:
                component.refuse(f"the name is that of {seen[component.name].label} too")
            seen[component.name] = component
