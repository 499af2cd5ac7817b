"""Read a registry of the vendor's open-source evals: YAML files that name classes and data.

Source: the README and the registry of the repository openai/evals.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from apps.datasets.row_readers import open_rows
from apps.datasets.tabular import BadRow
from apps.datasets.unpacking import BadFile

MAX_YAML_BYTES = 4 * 1024 * 1024
LFS_POINTER = b"version https://git-lfs.github.com/"


class NotLoaded(Exception):
    """An eval cannot be loaded; the message tells why."""


@dataclass(frozen=True)
class RegistryEval:
    """An eval as its registry names it. kind: the class, with its module."""

    name: str
    kind: str
    description: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)


class Registry:
    """A folder with `evals/*.yaml`, `data/` and `modelgraded/*.yaml`. Raises NotLoaded."""

    def __init__(self, root: Path) -> None:
        inside = root / "evals" / "registry"
        self.root = inside if (inside / "evals").is_dir() else root
        if not (self.root / "evals").is_dir():
            raise NotLoaded(f"{root} has no folder evals with YAML files in it")
        self.problems: list[tuple[str, str]] = []

    def evals(self) -> Iterator[RegistryEval]:
        """Yield each eval under its base name, or its own where no base name leads to it.

        A file or an entry that cannot be read is noted among the problems.
        """
        entries = dict(self._entries("evals"))
        led_to: set[str] = set()
        for name, entry in entries.items():
            if "class" in entry:
                continue
            target = entries.get(str(entry.get("id")))
            if target is None or "class" not in target:
                self.problems.append((name, f"its id {entry.get('id')!r} is no eval with a class"))
                continue
            led_to.add(str(entry["id"]))
            yield self._eval(name, target, entry)
        for name, entry in entries.items():
            if "class" in entry and name not in led_to:
                yield self._eval(name, entry, entry)

    def _eval(self, name: str, entry: Mapping[str, Any], base: Mapping[str, Any]) -> RegistryEval:
        args = entry.get("args")
        return RegistryEval(
            name,
            str(entry["class"]),
            str(base.get("description") or entry.get("description") or ""),
            args if isinstance(args, dict) else {},
        )

    def spec(self, name: str) -> Mapping[str, Any]:
        """Return the specification of a judge by its name."""
        found = self._specs.get(name)
        if found is None:
            raise NotLoaded(f"there is no specification {name!r} in modelgraded")
        return found

    @cached_property
    def _specs(self) -> dict[str, dict[str, Any]]:
        return dict(self._entries("modelgraded"))

    def rows(self, name: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of a file of the data folder, a few at a time."""
        if not isinstance(name, str) or not name:
            raise NotLoaded("it names no file of rows (samples_jsonl)")
        if "://" in name:
            raise NotLoaded(f"its rows lie elsewhere: {name}")
        data = (self.root / "data").resolve()
        path = (data / name).resolve()
        if not path.is_relative_to(data):
            raise NotLoaded(f"{name} is not below the registry's data")
        try:
            with path.open("rb") as file:
                if file.read(len(LFS_POINTER)) == LFS_POINTER:
                    raise NotLoaded(f"{name} is a pointer of Git LFS: fetch it with git lfs pull")
                with open_rows(file, path.name) as reading:
                    for row in reading:
                        if isinstance(row, BadRow):
                            raise NotLoaded(f"{name}: {row.place}: {row.message}")
                        yield row.value
        except OSError as error:
            raise NotLoaded(f"{name}: {error.strerror or error}") from None
        except BadFile as error:
            raise NotLoaded(f"{name}: {error}") from None

    def _entries(self, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for path in sorted((self.root / folder).glob("*.y*ml")):
            try:
                found = _read_yaml(path)
            except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
                reason = " ".join(str(error).split())[:200]
                self.problems.append((f"{folder}/{path.name}", f"cannot be read: {reason}"))
                continue
            # A specification of a judge may stand alone in its file.
            entries = {path.stem: found} if "prompt" in found else found
            for name, entry in entries.items():
                if isinstance(entry, dict):
                    yield str(name), entry


def _read_yaml(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_YAML_BYTES:
        raise ValueError(f"larger than {MAX_YAML_BYTES:,} bytes")
    found = yaml.load(path.read_bytes(), Loader=_LOADER)  # noqa: S506  a safe one
    return found if isinstance(found, dict) else {}


# The C parser is ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
