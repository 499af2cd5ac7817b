"""The page on adding a grader: its code runs, its tests pass, its paths exist."""

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from apps.grading.graders import GRADERS, build_grader
from apps.grading.samples import Sample

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-grader.md").read_text()
MODULE, TESTS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def word_limit(monkeypatch):
    """The page's grader, listed as the page says, for one test."""
    module = types.ModuleType("apps.grading.graders.word_limit")
    # Where a dataclass looks up its annotations.
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(MODULE, "word_limit.py", "exec"), module.__dict__)
    monkeypatch.setitem(GRADERS, module.WordLimit.kind, module.WordLimit)
    return module.WordLimit


@pytest.mark.usefixtures("word_limit")
def test_the_grader_of_the_page_grades():
    grader = build_grader("word_limit", {"most": 3, "input": "{{ item.text }}"})
    short, long = (grader.grade(Sample({"text": text}, None)) for text in ("a b c", "a b c d"))
    assert (short.value, short.passed, short.evidence) == (1.0, True, "3 words")
    assert (long.value, long.passed, long.evidence) == (0.0, False, "4 words")
    assert grader.templates() == ("{{ item.text }}",)


def test_the_tests_of_the_page_pass_and_say_something(word_limit, tmp_path):
    """They pass with the page's grader, and fail with one that always passes."""
    file = tmp_path / "test_word_limit.py"
    listing = "from apps.grading.graders import GRADERS\nGRADERS['word_limit'] = WordLimit\n"
    for module, exit_code in (
        (MODULE, pytest.ExitCode.OK),
        (MODULE.replace("count <= self.most", "True"), pytest.ExitCode.TESTS_FAILED),
    ):
        file.write_text(module + listing + TESTS)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest"]
        command += ["-c", "/dev/null", "--rootdir", str(tmp_path), str(file)]
        # None of the plugins is asked for, and they take longer to load than the tests to run.
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == exit_code, done.stdout


def test_every_path_of_the_page_exists():
    paths = re.findall(r"`([\w./-]+/[\w./-]*)`", PAGE)
    assert len(paths) > 8
    assert [path for path in paths if path != "/v1/evals" and not (ROOT / path).exists()] == []
