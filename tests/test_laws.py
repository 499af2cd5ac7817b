"""The import law is kept, sees what breaks it, and lets a vendor's folder be taken away."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINTER = Path(sys.executable).with_name("lint-imports")
COPIED = ("apps", "benchmarks", "docs", "evalplatform", "static", "templates", "tests")
# A module, what it may not import, and how the linter names that.
BROKEN = [
    ("apps/evaluations/models/runs.py", "evalplatform.dialects.kit.fields", None),
    ("apps/evaluations/models/runs.py", "evalplatform.lifeline", None),
    ("apps/datasets/services.py", "rest_framework.serializers", "rest_framework"),
    ("apps/accounts/services/keys.py", "drf_spectacular.utils", "drf_spectacular"),
    ("apps/evaluations/exports.py", "apps.evaluations.forms", None),
    ("apps/evaluations/costs.py", "django.conf", "django"),
    ("apps/clients/presets.py", "django.conf", "django"),
    ("apps/inference/models/endpoints.py", "apps.inference.slots", None),
    ("apps/grading/samples.py", "apps.datasets.models", None),
    ("apps/strict_json.py", "apps.clients.base", None),
    ("evalplatform/dialects/kit/fields.py", "evalplatform.dialects.openai.words", None),
    ("evalplatform/dialects/openai/words.py", "evalplatform.dialects.spice.words", None),
    ("evalplatform/dialects/spice/evals.py", "apps.evaluations.admin.runs", None),
    ("evalplatform/dialects/spice/words.py", "evalplatform.web.paging", None),
    ("evalplatform/web/paging.py", "evalplatform.dialects.openai.words", None),
    ("evalplatform/web/runs.py", "apps.evaluations.engine.close", None),
    ("evalplatform/sessions.py", "evalplatform.dialects.kit.json", None),
    ("evalplatform/environment.py", "evalplatform.settings", None),
    ("evalplatform/settings.py", "evalplatform.sessions", None),
]
VENDORS = ("openai", "spice")
LONGEST_MODULE = 450  # lines
# A plugin of pytest in the copy, which has loaded the settings by then: imports what is left,
# asks each command for its help, and builds the schemas.
WALK = """
import pkgutil
from importlib import import_module

from django.core.management import call_command, get_commands, load_command_class
from django.test import Client

def pytest_collection_finish():
    call_command("check")
    for root in ("apps", "evalplatform"):
        for module in pkgutil.walk_packages([root], root + "."):
            if ".webassembly" not in module.name:  # for a runner that few machines have
                import_module(module.name)
    for name, app in get_commands().items():
        if not str(app).startswith(("django.", "rest_framework", "drf_", "django_q")):
            load_command_class(app, name).create_parser("manage.py", name).format_help()
    from evalplatform.dialects.kit.dialect import dialects

    assert [one.name for one in dialects()] == LEFT, dialects()
    for one in dialects():
        answer = Client().get("/schema/" + one.name, headers={"accept": "application/json"})
        assert answer.status_code == 200 and answer.json()["paths"], answer.content
"""


def copy_tree(to: Path) -> Path:
    for name in COPIED:
        # What is compiled comes along, lest the copy be compiled anew.
        shutil.copytree(ROOT / name, to / name)
    for name in ("pyproject.toml", "manage.py", *(page.name for page in ROOT.glob("*.md"))):
        shutil.copy(ROOT / name, to)
    return to


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the copy, whose modules come before ours."""
    clean = {
        "ALLOWED_HOSTS": "testserver",
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(cwd),
        "DATA_DIR": str(cwd / "var"),
    }
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def module_of(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def test_the_import_law_is_kept():
    kept = subprocess.run(
        [LINTER, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert kept.returncode == 0, kept.stdout
    assert ", 0 broken." in kept.stdout


def test_the_linter_refuses_each_import_that_breaks_the_law(tmp_path: Path):
    copy = copy_tree(tmp_path)
    for path, imported, _ in BROKEN:
        with (copy / path).open("a") as file:
            file.write(f"\nimport {imported}\n")
    (copy / "apps" / "stray.py").touch()
    (copy / "evalplatform" / "stray.py").touch()
    (copy / "evalplatform" / "dialects" / "stray.py").touch()
    (copy / "apps" / "evaluations" / "stray.py").touch()
    refused = run(LINTER, "--no-cache", cwd=copy)
    assert refused.returncode == 1
    said = re.sub(r" \(l\.[^)]*\)", "", refused.stdout)
    for path, imported, named in BROKEN:
        assert f"{module_of(path)} -> {named or imported}\n" in said, (path, imported)
    for module in ("apps", "evalplatform", "evalplatform.dialects", "apps.evaluations"):
        assert f"- {module}.stray\n" in said


def lines_of(root: str) -> dict[Path, int]:
    """Count the lines of each module below a folder, migrations aside."""
    modules = [path for path in (ROOT / root).rglob("*.py") if "migrations" not in path.parts]
    return {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in modules}


def test_no_room_holds_a_third_of_the_house_and_no_module_is_long():
    lines = lines_of("apps") | lines_of("evalplatform")
    total = sum(lines.values())
    rooms: dict[tuple[str, ...], int] = {}
    for path, count in lines.items():
        rooms[path.parts[:2]] = rooms.get(path.parts[:2], 0) + count
    assert max(rooms.values()) <= total / 3, max(rooms, key=lambda room: rooms[room])
    assert not {str(path): count for path, count in lines.items() if count > LONGEST_MODULE}


def test_an_import_inside_a_function_says_why():
    for path in (*lines_of("apps"), *lines_of("evalplatform")):
        for line in (ROOT / path).read_text().splitlines():
            if "noqa: PLC0415" in line:
                assert re.search(r"noqa: PLC0415  ?#? ?\w{2,} \w{2,}", line), (path, line)


def test_what_a_checker_is_told_to_pass_over_says_why():
    silenced = re.compile(r"# (type: ignore|noqa)\b")
    with_reason = re.compile(r"(type: ignore\[[^]]+\]|noqa: [A-Z0-9, ]+) +(# |- )?\w+")
    for path in (*lines_of("apps"), *lines_of("evalplatform")):
        for line in (ROOT / path).read_text().splitlines():
            if silenced.search(line):
                assert with_reason.search(line), (path, line)


def test_no_docstring_opens_like_a_riddle_and_no_banner_parts_a_module():
    riddle = re.compile(r'^ *"""(What|Who|How|Whether|Those|That|Where|Have|May|Is|Are) ', re.M)
    banner = re.compile(r"^ *# ---", re.M)
    for path in (*lines_of("apps"), *lines_of("evalplatform")):
        text = (ROOT / path).read_text()
        assert not riddle.search(text), (path, riddle.search(text))
        assert not banner.search(text), path


def imported_by(path: Path) -> set[str]:
    """The dotted names that a module imports, or imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("vendor", VENDORS)
def test_other_tests_need_nothing_of_a_vendors_folder(vendor: str):
    own = ROOT / "tests" / "dialects" / vendor
    theirs = (f"evalplatform.dialects.{vendor}.", f"tests.dialects.{vendor}.")
    for path in (ROOT / "tests").rglob("*.py"):
        if own not in path.parents:
            assert not [name for name in imported_by(path) if f"{name}.".startswith(theirs)], path


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendors_folder_can_be_taken_away(vendor: str, tmp_path: Path):
    """Without it and its line in the settings all else works, and others' tests are found."""
    copy = copy_tree(tmp_path)
    shutil.rmtree(copy / "evalplatform" / "dialects" / vendor)
    shutil.rmtree(copy / "tests" / "dialects" / vendor)
    settings = copy / "evalplatform" / "settings.py"
    line = f'    "evalplatform.dialects.{vendor}",\n'
    text = settings.read_text()
    assert text.count(line) == 1
    settings.write_text(text.replace(line, ""))
    left = [name for name in VENDORS if name != vendor]
    (copy / "walk.py").write_text(f"LEFT = {left}\n{WALK}")
    walked = run(
        sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "walk",
        "-p", "no:cacheprovider", "tests/dialects", "tests/test_schemas.py",
        cwd=copy,
    )  # fmt: skip
    assert walked.returncode == 0, walked.stdout[-3000:] + walked.stderr[-3000:]
    for name in left:
        assert f"tests/dialects/{name}/" in walked.stdout
