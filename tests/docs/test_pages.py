"""What the pages name is there: files and folders, settings, constants, classes, commands."""

import ast
import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands

from docs.draw_architecture import law
from tests.served import ROOT

# The vendors' words are theirs, and the figures are made by a command.
OURS = [
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"))
    if path.exists()
]
PAGES = [*OURS, *(ROOT / "docs" / "contracts").glob("*.md")]
ROOTS = (
    "apps",
    "evalplatform",
    "tests",
    "benchmarks",
    "docs",
    "templates",
    "static",
    "requirements",
)
ENDINGS = ("py", "md", "toml", "svg", "png", "html", "css", "js", "txt")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
# <name> stands for any name; * too.
PATH = re.compile(rf"(?:\.ci|{'|'.join(ROOTS)})/[\w./*<>-]*|[\w-]+\.(?:{'|'.join(ENDINGS)})")
CONSTANT = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
DOTTED = re.compile(r"(?:apps|evalplatform|tests|benchmarks)(?:\.\w+)+")
MEMBER = re.compile(r"([A-Z]\w*[a-z]\w*)\.(\w+)(?:\(\))?")
STAND_INS = {"NAME_FILE"}
COMMAND = re.compile(r"(?:\.venv/bin/python )?manage\.py ([a-z_]+)\b.*")


def spans(page: Path) -> list[str]:
    """List what a page has in backticks, blocks of code left out."""
    return CODE.findall(FENCE.sub("", page.read_text(encoding="utf-8")))


def spelled(shape: re.Pattern[str], pages: list[Path]) -> list[tuple[str, str]]:
    """List what the pages have in backticks of a shape, each with its page's name."""
    found = {(page.name, span) for page in pages for span in spans(page)}
    return sorted((name, span) for name, span in found if shape.fullmatch(span))


def ours() -> Iterator[Path]:
    for root in ("apps", "evalplatform"):
        yield from (ROOT / root).rglob("*.py")


@cache
def words() -> set[str]:
    """Collect the words of our code, and of the tests those that name environment variables."""
    texts = [path.read_text(encoding="utf-8") for path in ours()]
    found = set(re.findall(r"\w+", "".join(texts)))
    for path in (ROOT / "tests").rglob("*.py"):
        found |= set(re.findall(r"environ\W+(?:get\W+)?([A-Z_0-9]+)", path.read_text("utf-8")))
    return found


@cache
def members(owner: str) -> set[str]:
    """Collect a class's methods, its fields, and the attributes that its methods set."""
    found: set[str] = set()
    for text in (path.read_text(encoding="utf-8") for path in ours()):
        if not re.search(rf"^class {owner}\b", text, re.MULTILINE):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.name == owner:
                for inner in ast.walk(node):
                    if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                        found.add(inner.name)
                    elif isinstance(getattr(inner, "ctx", None), ast.Store):
                        found.add(getattr(inner, "attr", getattr(inner, "id", "")))
    return found


def exists(path: str) -> bool:
    """Look for a path from the root; the bare name of a file may be in any folder."""
    pattern = re.sub(r"<[^>]*>", "*", path).removesuffix("/")
    if any(ROOT.glob(pattern)):
        return not path.endswith("/") or any(one.is_dir() for one in ROOT.glob(pattern))
    if "/" in path:
        return False
    return any(fnmatch(one.name, pattern) for root in ROOTS for one in (ROOT / root).rglob("*.*"))


def is_dotted_name(name: str) -> bool:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_the_pages_have_what_the_tests_below_look_at():
    for shape, fewest in ((PATH, 60), (CONSTANT, 25), (MEMBER, 10)):
        assert len(spelled(shape, OURS)) >= fewest, shape


def test_every_path_in_a_page_exists():
    # A page on adding something names files that its reader will make.
    named = [
        (page, path)
        for page, path in spelled(PATH, PAGES)
        if "/" in path or not page.startswith("adding-")
    ]
    assert not [one for one in named if not exists(one[1])]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page):
    links = LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    assert not [one for one in links if ":" not in one and not (page.parent / one).exists()]


def test_every_link_within_a_page_leads_to_a_heading():
    for page in OURS:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", one).lower().replace(" ", "-") for one in headings}
        assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors, page


def test_every_setting_and_constant_in_a_page_exists():
    named = [one for one in spelled(CONSTANT, OURS) if one[1] not in STAND_INS]
    assert not [one for one in named if one[1] not in words() and not hasattr(settings, one[1])]


def test_every_dotted_name_in_a_page_exists():
    assert not [one for one in spelled(DOTTED, OURS) if not is_dotted_name(one[1])]
    for page, name in spelled(MEMBER, OURS):
        owner, member = MEMBER.fullmatch(name).groups()
        assert member in members(owner), (page, name)


def test_every_name_in_the_page_on_architecture_exists():
    named = spelled(re.compile(r"\w+"), [ROOT / "docs" / "architecture.md"])
    assert len(named) >= 60
    assert not [name for _, name in named if name not in words()]


def test_the_page_on_architecture_says_where_things_go_and_what_decides_a_retry():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for thing in (
        "grader", "field on a vendor's object", "kind of target", "page", "metric",
        "command of a vendor", "setting", "kind of webhook event", "file ending",
    ):  # fmt: skip
        (where,) = re.findall(rf"^\| a new {thing} \| (.*) \|$", text, re.MULTILINE)
        assert [span for span in CODE.findall(where) if PATH.fullmatch(span)], thing
    assert "`RetryState.pause` in `apps/clients/retries.py`" in text


def test_the_layers_in_the_page_on_architecture_are_those_of_the_law():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for container in ("evalplatform", "evalplatform.dialects", "apps", "apps.evaluations"):
        folder = container.replace(".", "/")
        (told,) = re.findall(rf"^\| `{folder}/` \| ([a-z_,; ]+) \|$", text, re.MULTILINE)
        layers = [layer.split(", ") for layer in told.split("; ")]
        held = [
            [name for name in layer if find_spec(name) and not name.endswith(".apps")]
            for layer in law(container)
        ]
        assert [[f"{container}.{name}" for name in layer] for layer in layers] == [
            *filter(None, held)
        ]


def test_every_command_in_a_page_exists():
    for page, command in spelled(COMMAND, OURS):
        assert COMMAND.fullmatch(command)[1] in get_commands(), (page, command)


def test_every_command_line_in_a_page_can_be_typed():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    typed = [
        shlex.split(line, comments=True)
        for page in OURS
        for block in SHELL.findall(page.read_text(encoding="utf-8"))
        for line in block.splitlines()
    ]
    assert len(typed) >= 10
    for program, *arguments in filter(None, typed):
        if program == "make":
            assert set(arguments) <= targets, arguments
        elif arguments[:1] == ["manage.py"]:
            assert arguments[1] in get_commands(), arguments
        assert all(exists(word) for word in arguments if PATH.fullmatch(word)), arguments


def test_a_name_that_is_gone_is_found():
    assert not exists("apps/grading/graders/no_such_grader.py")
    assert not exists("apps/<app>/no_such_file.py")
    assert not exists("nosuchfile.py")
    assert not is_dotted_name("apps.evaluations.models.NoSuchModel")
    assert "NO_SUCH_SETTING" not in words()
    assert "no_such_method" not in members("Shard")
