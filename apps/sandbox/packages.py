"""What graders may import besides the standard library: the packages that are installed here."""

import re
from collections.abc import Container, Iterable
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

# contract: openai section 13.3: the hosted graders have these; here, those that are installed
OFFERED = (
    "numpy",
    "scipy",
    "sympy",
    "pandas",
    "rapidfuzz",
    "scikit-learn",
    "rouge-score",
    "deepdiff",
    "jsonschema",
    "pydantic",
    "pyyaml",
    "nltk",
    "sqlparse",
    "rdkit",
    "scikit-bio",
    "ast-grep-py",
)
# Has all its functions in plain Python too, for where its compiled ones cannot be imported.
PLAIN_AS_WELL = {"rapidfuzz"}
COMPILED = {".so", ".pyd", ".dylib"}
NAME = re.compile(r"[\w.-]+")


@cache
def offered() -> dict[str, Distribution]:
    """The offered distributions that are installed, and what these need to be imported."""
    found: dict[str, Distribution] = {}
    names = list(OFFERED)
    while names:
        name = names.pop().lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        for need in found[name].requires or ():
            names += _named(need)
    return found


def _named(need: str) -> list[str]:
    """The distribution that is needed, none for an extra's."""
    requirement, _, marker = need.partition(";")
    named = NAME.match(requirement)
    return [named.group()] if named and "extra" not in marker else []


def versions() -> dict[str, str]:
    """What a grader's author may rely on."""
    there = offered()
    return {name: there[name].version for name in OFFERED if name in there}


@cache
def entries() -> tuple[Path, ...]:
    """The top-level folders and modules to make visible, metadata included."""
    paths: set[Path] = set()
    for one in offered().values():
        tops = {file.parts[0] for file in one.files or ()}
        found = {Path(str(one.locate_file(top))) for top in tops if not top.startswith(".")}
        paths |= {path for path in found if path.suffix != ".pth" and path.exists()}
    return tuple(sorted(path for path in paths if path.name != "__pycache__"))


def plain(elsewhere: Container[str]) -> dict[str, Distribution]:
    """Those that another Python can import too, given that it has the ones named `elsewhere`."""
    there = {_same(name): one for name, one in offered().items()}

    def is_plain(name: str) -> bool:
        if name in elsewhere:
            return True
        if name not in there:
            return False
        needs = [_same(other) for need in there[name].requires or () for other in _named(need)]
        files = there[name].files or ()
        is_compiled = any(file.suffix in COMPILED for file in files)
        return (not is_compiled or name in PLAIN_AS_WELL) and all(map(is_plain, needs))

    return {name: one for name, one in there.items() if name not in elsewhere and is_plain(name)}


def files(distributions: Iterable[Distribution]) -> dict[str, Path]:
    """What these have to import and to read, by its path under the packages."""
    found = {
        str(file): Path(str(one.locate_file(file)))
        for one in distributions
        for file in one.files or ()
        if file.suffix not in COMPILED | {".pyc"} and ".." not in file.parts
    }
    return {name: path for name, path in found.items() if path.is_file()}


def _same(name: str) -> str:
    """The one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()
