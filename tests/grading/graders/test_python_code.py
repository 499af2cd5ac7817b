"""The grader written in Python: what is refused, and which mark each end of a call makes."""

import pytest

from apps import sandbox
from apps.errors import dotted
from apps.grading.graders import build_grader
from apps.grading.graders.base import InvalidSetting
from apps.grading.graders.python_code import PythonCode
from apps.grading.samples import Sample
from apps.sandbox import choose
from apps.sandbox.base import LONGEST_SECONDS
from tests.patience import patience, slowness

SOURCE = "def grade(sample, item):\n    return float(item['score'])\n"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(choose, "_choice", choose._choice)
    sandbox.configure(tmp_path, sandbox.Limits(seconds=min(patience(3), LONGEST_SECONDS)))


@pytest.fixture
def build():
    if sandbox.find_runner() is None:
        pytest.skip(sandbox.why_no_runner())
    return lambda **settings: build_grader("python", settings)


def marks(grader, *scores):
    return grader.grade_batch([Sample({"score": score}, None) for score in scores])


@pytest.mark.parametrize(
    "source",
    [
        "def grade(sample, item: return 1",
        "return 1",
        "def grade(sample): return 1",
        "def grade(sample, item, more): return 1",
        "def grade(sample, item, *more): return 1",
        "def grade(sample, *, item): return 1",
        "async def grade(sample, item): return 1",
        "def grade(sample, item): return 1\0",
        "-" * 100_000 + "1\ndef grade(sample, item): return 1",
        SOURCE + "#" * 256_000,
    ],
)
def test_a_source_that_cannot_grade_is_refused(source):
    with pytest.raises(InvalidSetting) as refused:
        PythonCode(source)
    assert dotted(refused.value.path) == "source"


@pytest.mark.parametrize("source", ["", "x = 1", "class A:\n    def grade(self, item): return 1"])
def test_a_source_without_grade_fails_every_sample_by_name(source):
    mark = PythonCode(source).grade_batch([Sample({}, None)])[0]
    assert (mark.value, mark.passed) == (0.0, False)
    assert mark.error is not None
    assert "grade" in mark.error.message


@pytest.mark.parametrize("parameters", ["sample, item", "a, b=1", "sample, /, item"])
def test_two_parameters_of_any_name_are_accepted(parameters):
    PythonCode(f"def grade({parameters}): return 1")


def test_building_runs_nothing_of_the_source():
    PythonCode("raise SystemExit('it ran')\n" + SOURCE)


def test_a_source_that_only_warns_is_accepted():
    PythonCode("def grade(sample, item): return item is 1 and '\\d'")


@pytest.mark.parametrize("threshold", ["0.5", True, float("inf"), float("nan")])
def test_a_threshold_that_is_no_finite_number_is_refused(threshold):
    with pytest.raises(InvalidSetting) as refused:
        PythonCode.from_settings({"source": SOURCE, "pass_threshold": threshold})
    assert dotted(refused.value.path) == "pass_threshold"


def test_the_image_tag_and_a_null_threshold_are_ignored(build):
    assert build(source=SOURCE, image_tag="2025-05-08", pass_threshold=None) == PythonCode(SOURCE)


def test_without_a_threshold_what_is_above_zero_passes(build):
    found = marks(build(source=SOURCE), 0.1, 0, -1, 7)
    assert [(mark.value, mark.passed) for mark in found] == [
        (0.1, True),
        (0.0, False),
        (-1.0, False),
        (7.0, True),
    ]


def test_the_threshold_itself_passes(build):
    found = marks(build(source=SOURCE, pass_threshold=-1), -1, -1.01)
    assert [mark.passed for mark in found] == [True, False]


def test_an_exception_fails_its_item_with_the_traceback(build):
    good, bad = marks(build(source=SOURCE), 1, "no number")
    assert (good.value, good.passed, good.error) == (1.0, True, None)
    assert (bad.value, bad.passed, bad.errored) == (0.0, False, False)
    assert bad.error.code == "python_grader_runtime_error"
    assert "ValueError: could not convert" in bad.error.message


def test_a_failure_passes_no_threshold_however_low(build):
    [bad] = marks(build(source=SOURCE, pass_threshold=-5), None)
    assert (bad.value, bad.passed) == (0.0, False)


def test_a_limit_fails_its_item_and_names_itself(build, tmp_path):
    sandbox.configure(tmp_path, sandbox.Limits(seconds=max(1.0, slowness())))
    source = "def grade(sample, item):\n    while item['score']: pass\n    return 1"
    late, good = marks(build(source=source), 1, 0)
    assert (late.value, late.passed) == (0.0, False)
    assert late.error.code == "python_grader_server_error"
    assert "Time limit" in late.error.message
    assert good.passed


def test_an_item_without_a_sample_has_one_with_nothing_in_it(build):
    nothing = "choices=None, output_text='', output_json=None, output_tools=[], output_audio=None"
    grader = build(source=f"def grade(sample, item): return sample == dict({nothing})")
    assert marks(grader, 1)[0].passed


def test_without_a_sandbox_it_is_refused_with_a_way_to_have_one(tmp_path):
    sandbox.configure(tmp_path, wanted="none")
    with pytest.raises(InvalidSetting, match="install bubblewrap") as refused:
        build_grader("python", {"source": SOURCE})
    assert dotted(refused.value.path) == "type"


def test_a_sandbox_that_is_gone_errs_every_item(tmp_path):
    sandbox.configure(tmp_path, wanted="none")
    found = marks(PythonCode(SOURCE), 1, 2)
    assert [mark.errored for mark in found] == [True, True]
    assert {mark.error.code for mark in found} == {"sandbox_unavailable"}
