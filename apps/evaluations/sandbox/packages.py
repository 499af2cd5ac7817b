"""What graders may import besides the standard library: the packages that are installed here."""

import re
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

# What the hosted graders have (contracts/openai.md, section 13.3), as far as it is installed.
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
            requirement, _, marker = need.partition(";")
            named = NAME.match(requirement)
            if named and "extra" not in marker:
                names.append(named.group())
    return found


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
