"""The README names commands, options, settings, paths and pictures that there are."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from tests.served import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SHELL = [
    shlex.split(line, comments=True)
    for language, block in BLOCKS
    if language == "sh"
    for line in block.splitlines()
    if line.strip()
]
MANAGED = [words[2:] for words in SHELL if words[1:2] == ["manage.py"]]
MADE = sorted({words[1] for words in SHELL if words[0] == "make"})
SETTINGS = [
    name
    for row in re.findall(r"^\| (`.*?) \|", README, re.MULTILINE)
    for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", row)
]
READERS = "\n".join(
    path.read_text(encoding="utf-8")
    for path in [ROOT / "evalplatform" / "settings.py", *(ROOT / "evalplatform").rglob("up.py")]
)
LINKS = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
PATHS = re.findall(r"`((?:benchmarks|docs|tests|requirements)/[\w./-]+)`", README)


def test_the_readme_has_what_the_tests_below_look_at():
    assert {"demo", "setup", "test", "test-services"} <= set(MADE)
    assert {"up", "worker", "create_api_key", "add_endpoint"} <= {words[0] for words in MANAGED}
    assert {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "ENCRYPTION_KEY", "PORT"} <= set(SETTINGS)


@pytest.mark.parametrize("words", MANAGED, ids=" ".join)
def test_every_management_command_takes_the_options_it_is_shown_with(words):
    name, *options = words
    app = get_commands()[name]
    assert app.startswith("evalplatform")
    # Exits, which fails the test, when an option is unknown or missing.
    load_command_class(app, name).create_parser("manage.py", name).parse_args(options)


@pytest.mark.parametrize("target", MADE)
def test_every_make_target_is_there(target):
    command = ["make", "--dry-run", "--always-make", target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_named_is_read(name):
    assert f'"{name}"' in READERS


@pytest.mark.parametrize("path", [*LINKS, *PATHS])
def test_every_file_named_is_there(path):
    assert (ROOT / path).exists()


def test_every_folder_on_the_map_is_there():
    (drawn,) = [block for language, block in BLOCKS if not language and "apps/" in block]
    folders: list[Path] = []
    for line in drawn.splitlines():
        indent = len(line) - len(line.lstrip())
        names = re.match(r"((?:[\w./-]+/|[\w-]+\.py)(?:  (?=\w+/))?)+", line.strip())
        assert names, line
        # Two spaces of indent are one level down.
        parent = folders[-1] if indent else ROOT
        for name in names[0].split():
            assert (parent / name).exists(), line
        if not indent:
            folders.append(ROOT / names[0].split()[0])


def test_the_python_it_shows_compiles():
    shown = [block for language, block in BLOCKS if language == "python"]
    assert shown
    for block in shown:
        compile(block, "README.md", "exec")
