"""Find the installed packages that graders may import besides the standard library."""

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
# Its compiled modules have twins in plain Python, for a Python that cannot import the former.
PLAIN_AS_WELL = {"rapidfuzz"}
COMPILED = {".so", ".pyd", ".dylib"}
NAME = re.compile(r"[\w.-]+")


@cache
def offered() -> dict[str, Distribution]:
    """Return the installed ones of OFFERED and all that they require, by name in lower case."""
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
    """Read the name in a requirement; nothing for a requirement of an extra."""
    requirement, _, marker = need.partition(";")
    named = NAME.match(requirement)
    return [named.group()] if named and "extra" not in marker else []


def versions() -> dict[str, str]:
    """Return the installed ones of OFFERED with their versions, for the grader's author."""
    there = offered()
    return {name: there[name].version for name in OFFERED if name in there}


@cache
def entries() -> tuple[Path, ...]:
    """Return the top-level folders and modules to mount in a sandbox, metadata included."""
    paths: set[Path] = set()
    for one in offered().values():
        tops = {file.parts[0] for file in one.files or ()}
        found = {Path(str(one.locate_file(top))) for top in tops if not top.startswith(".")}
        paths |= {path for path in found if path.suffix != ".pth" and path.exists()}
    return tuple(sorted(path for path in paths if path.name != "__pycache__"))


def plain(elsewhere: Container[str]) -> dict[str, Distribution]:
    """Return the distributions that a Python without our compiled modules can import too.

    elsewhere: the distributions that this other Python brings itself; those are left out. A
    distribution counts when it and all that it requires are plain Python or brought along.
    """
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
    """Return the files of these distributions, by their path under the packages' folder.

    Compiled modules are left out: the other Python could not load them.
    """
    found = {
        str(file): Path(str(one.locate_file(file)))
        for one in distributions
        for file in one.files or ()
        if file.suffix not in COMPILED | {".pyc"} and ".." not in file.parts
    }
    return {name: path for name, path in found.items() if path.is_file()}


def _same(name: str) -> str:
    """Normalise a distribution's name. Source: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
