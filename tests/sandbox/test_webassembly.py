"""Attacks and files that only WebAssembly has."""

import pytest

from apps.sandbox import CallResult, Case, Limits
from apps.sandbox.pool import SandboxPool
from apps.sandbox.webassembly import image
from apps.sandbox.webassembly.runner import WebAssembly
from apps.sandbox.webassembly.system import Failure, Tree
from tests.sandbox.conftest import TIGHT
from tests.sandbox.runners import in_wasm

pytestmark = in_wasm


def test_another_item_of_the_batch_is_not_in_its_memory(run):
    source = """
        import gc, sys

        def grade(sample, item):
            held = [one for one in gc.get_objects() if isinstance(one, dict) and "word" in one]
            seen = {one["word"] for one in held if isinstance(one["word"], str)}
            seen |= set(getattr(sys, "kept", ()))
            sys.kept = [item["word"], *getattr(sys, "kept", ())]
            return len(seen - {item["word"]})
    """
    items = [{"word": f"word-{number}"} for number in range(6)]
    assert run(source, items) == [CallResult("scored", 0.0)] * 6


def test_what_is_patched_is_whole_again_for_the_next(attack):
    body = """
        import builtins, json, math, _host
        grading = sys.modules["sandbox.grading"]
        grading.as_score = lambda returned: 1.0
        grading.call = grading.traceback_text = json.loads = math.isfinite = _host.call = None
        builtins.float = lambda value: 1.0
        return 0.0
    """
    assert attack(body).end in {"scored", "raised", "lost"}


@pytest.mark.parametrize("asked", ["b'N'", "b'S'", "b''", "b'X' * 100", "'R'", "None"])
def test_the_way_out_gives_no_second_case_and_nothing_else(attack, asked):
    result = attack(f"import _host\nraise ValueError(_host.call({asked}))")
    assert result.end == "raised"
    assert "ValueError: b" not in result.text


@pytest.mark.parametrize("said", ["b'R'", "b'R1.0'", "b'RV'", "b'RV1'", "b'R' + b'E' * 999_999"])
def test_a_result_that_is_none_is_no_score(attack, said):
    assert attack(f"import _host\n_host.call({said})\nreturn 1").end in {"lost", "raised"}


@pytest.mark.parametrize(
    "body",
    [
        "return len(b'x' * (1 << 30))",
        "held = []\nwhile True: held.append(bytearray(1 << 20))",
        "import numpy\nheld = []\nwhile True: held.append(numpy.ones(1 << 20))",
        "return len(str([[]] * (1 << 28)))",
    ],
)
def test_a_memory_bomb_ends_at_the_memory_limit(attack, body):
    result = attack(body)
    assert result.end in {"lost", "raised"}
    assert "Memory limit: 512 MiB." in result.text or "MemoryError" in result.text


@pytest.mark.parametrize(
    "body",
    [
        "def f(): return f()\nf()",
        "sys.setrecursionlimit(1 << 30)\ndef f(): return f()\nf()",
        "deep = []\nfor _ in range(1 << 20): deep = [deep]\nreturn repr(deep) == 1",
        "import re\nreturn bool(re.match('(' * 5000 + 'a' + ')' * 5000, 'a'))",
        "return eval('-' * 100_000 + '1')",
    ],
)
def test_who_nests_too_deeply_is_alone(attack, body):
    assert attack(body).end in {"lost", "raised"}


@pytest.mark.parametrize(
    "body",
    [
        "os.fork()",
        "os.system('true')",
        "import subprocess\nsubprocess.run(['true'])",
        "import threading\nthreading.Thread(target=print).start()",
        "import ctypes\nctypes.CDLL(None)",
        "import mmap\nmmap.mmap(-1, 1 << 24)",
        "os.kill(1, 9)",
        "open('/tmp/mine', 'w')",
        "os.mkdir('/mine')",
        "os.unlink('/sandbox/grading.py')",
        "os.rename('/sandbox/grading.py', '/mine')",
        "open('/sandbox/grading.py', 'r+')",
        "open('/../../../../../../etc/passwd')",
        "open('/packages/../../etc/passwd')",
    ],
)
def test_there_is_no_such_call(attack, body):
    result = attack(body)
    assert result.end == "raised"
    assert "Traceback" in result.text


def test_a_flood_of_open_files_meets_its_limit(attack):
    body = "held = []\nwhile True: held.append(open('/sandbox/grading.py'))"
    assert "Too many open files" in attack(body).text or "No file descriptors" in attack(body).text


def test_a_long_sleep_ends_at_the_time_limit(attack):
    text = attack("time.sleep(1000)", seconds=TIGHT).text
    assert text == f"Time limit: grade() had {TIGHT:g} seconds."


def test_an_exit_ends_its_own_item(attack):
    assert attack("os._exit(7)").text == "The grader ended its process (exit status 7)."


def test_the_science_it_names_works(run, runner: SandboxPool):
    assert {"numpy", "scipy", "pandas", "scikit-learn", "rapidfuzz"} <= set(runner.packages())
    source = """
        import numpy, pandas
        from rapidfuzz import fuzz
        from sklearn.metrics import f1_score

        def grade(sample, item):
            frame = pandas.DataFrame({"x": numpy.arange(4)})
            return frame.x.sum() + f1_score([1, 0], [1, 0]) + fuzz.ratio("same", "same") / 100
    """
    assert run(source, [{}] * 2) == [CallResult("scored", 8.0)] * 2


def test_a_runner_that_is_not_warm_says_how_it_is_made_so(
    runner: SandboxPool, monkeypatch, tmp_path
):
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    refusal = runner.probe()
    assert refusal is not None
    assert "make sandbox" in refusal.message
    [result] = WebAssembly(tmp_path).run("def grade(s, i): return 1", [Case({}, {})], Limits())
    assert result.end == "unavailable"
    assert "make sandbox" in result.text


def test_only_the_files_that_are_named_can_be_opened(runner: SandboxPool, secret_file):
    tree = Tree({"/folder/file": secret_file})
    assert tree.opened("/folder/file").taken(8) == b"a secret"
    assert tree.opened("/folder").content is None
    for path in ("/etc/passwd", str(secret_file), "/folder/../etc/passwd", "/folder/file/x"):
        with pytest.raises(Failure):
            tree.opened(path)
    assert all(
        path.startswith(("/sandbox/", "/packages/", image.LIBRARY)) for path in image.files()
    )
