"""Harmless graders: their results in every runner, and how a runner is chosen and kept."""

import math
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import Popen

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps import sandbox
from apps.sandbox import CallResult, Case, Limits, choose, pool
from apps.sandbox.bubblewrap import Bubblewrap
from apps.sandbox.driver import CALLS, seccomp_program
from apps.sandbox.pool import IdleSandboxes, SandboxPool
from apps.sandbox.process import CaseExchange
from apps.sandbox.slots import Slot
from tests.patience import patience
from tests.sandbox.runners import as_every_user


def test_each_case_is_given_its_own_arguments_in_their_order(runner):
    source = "def grade(sample, item):\n    return sample['number'] - item['number']\n"
    cases = [Case({"number": 2 * number}, {"number": number}) for number in range(100)]
    assert runner.run(source, cases, Limits()) == [
        CallResult("scored", float(n)) for n in range(100)
    ]


def test_what_one_call_changes_no_other_sees(run):
    source = """
        seen = []
        def grade(sample, item):
            seen.append(item)
            item["word"] = sample["word"] = "changed"
            return len(seen)
    """
    assert run(source, [{"word": "kept"}] * 3) == [CallResult("scored", 1.0)] * 3


# One source for all that is returned, so that a single sandbox starts and imports.
RETURNS = "import fractions, numpy\ndef grade(sample, item): return eval(item['returned'])"


def test_a_number_is_a_score_whatever_its_type(run):
    values = {
        "True": 1.0,
        "False": 0.0,
        "3": 3.0,
        "-2.5": -2.5,
        "fractions.Fraction(1, 4)": 0.25,
        "numpy.float32(0.5)": 0.5,
        "numpy.bool_(True)": 1.0,
        "numpy.array(0.5)": 0.5,
    }
    results = run(RETURNS, [{"returned": returned} for returned in values])
    assert dict(zip(values, results, strict=True)) == {
        returned: CallResult("scored", value) for returned, value in values.items()
    }


def test_what_is_no_finite_number_is_told_as_an_error(run):
    returned = [
        *("None", "'1.0'", "b'1'", "[1.0]", "{}", "1j", "float('nan')", "float('inf')"),
        *("10 ** 400", "numpy.array([0.5])", "numpy.str_('1')"),
    ]
    results = run(RETURNS, [{"returned": one} for one in returned])
    for one, result in zip(returned, results, strict=True):
        assert result.end == "raised", one
        error = result.text.rstrip().splitlines()[-1].split(":")[0]
        assert error in {"TypeError", "ValueError", "OverflowError"}, one


def test_a_traceback_shows_the_grader_and_not_the_driver(run):
    source = """
        def helper(item):
            return item["missing"]

        def grade(sample, item):
            return helper(item)
    """
    [result] = run(source, [{}])
    assert 'File "grader.py", line 6, in grade' in result.text
    assert 'return item["missing"]' in result.text
    assert "KeyError: 'missing'" in result.text
    assert "driver" not in result.text


def test_a_long_traceback_keeps_its_end(run):
    [result] = run("def grade(sample, item): raise ValueError('é' * 100_000 + 'the end')", [{}])
    assert len(result.text) <= 4000
    assert result.text.endswith("the end\n")


def test_a_source_that_raises_when_it_is_loaded_fails_every_case(run):
    results = run("raise ValueError('not today')\ndef grade(sample, item): return 1", [{}] * 2)
    assert [one.end for one in results] == ["raised"] * 2
    assert "not today" in results[0].text


def test_a_source_without_grade_says_so(run):
    [result] = run("x = 1", [{}])
    assert "no function grade" in result.text


@as_every_user
def test_the_packages_it_names_can_be_imported(run, runner):
    packages = runner.packages()
    assert {"numpy", "scipy", "rapidfuzz"} <= set(packages)
    source = """
        import numpy
        from rapidfuzz import fuzz
        from scipy.stats import spearmanr

        def grade(sample, item):
            fuzz.ratio("a", "b")
            return spearmanr(numpy.arange(5), numpy.arange(5)).statistic
    """
    [result] = run(source, [{}])
    assert result.end == "scored"
    assert math.isclose(result.value, 1.0)


def test_a_package_that_is_not_offered_is_told_what_there_is(run, runner):
    [result] = run("import django\ndef grade(sample, item): return 1", [{}])
    assert "ModuleNotFoundError" in result.text
    assert f"The {runner.name} sandbox has Python's standard library and numpy" in result.text


def test_an_item_larger_than_a_pipe_arrives_whole(run):
    source = "def grade(sample, item): return len(item['text'])"
    assert run(source, [{"text": "é" * 3_000_000}]) == [CallResult("scored", 3_000_000.0)]


def test_who_does_not_read_a_large_item_to_its_end_is_alone(run):
    source = "import os\nif __name__: os._exit(3)\ndef grade(sample, item): return 1"
    assert {one.end for one in run(source, [{"text": "x" * 3_000_000}] * 2)} == {"lost"}


def test_a_sandbox_that_does_not_start_leaves_every_case_unjudged(tmp_path, monkeypatch):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho it cannot be >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    runner = Bubblewrap(tmp_path / "slots", as_root=True)
    results = runner.run("def grade(sample, item): return 1", [Case({}, {})] * 200, Limits())
    assert {one.end for one in results} == {"unavailable"}
    assert len(results) == 200
    assert "it cannot be" in results[0].text
    refusal = runner.probe()
    assert refusal is not None
    assert "it cannot be" in refusal.message


@pytest.fixture(autouse=True)
def _own_choice(monkeypatch):
    monkeypatch.setattr(choose, "_choice", choose._choice)


@pytest.fixture
def bare_machine(tmp_path, monkeypatch):
    """A machine without bubblewrap and without the WebAssembly runner's machine code."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.prefix", str(tmp_path))


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize("wanted", ["auto", "bubblewrap", "wasm", "none"])
def test_without_a_runner_both_ways_to_have_one_are_told(tmp_path, wanted):
    sandbox.configure(tmp_path, wanted=wanted)
    assert sandbox.find_runner() is None
    why = sandbox.why_no_runner()
    assert "install bubblewrap" in why
    assert "`make sandbox`" in why
    assert ("bubblewrap is not installed" in why) == (wanted in {"auto", "bubblewrap"})
    assert ("the WebAssembly runner is" in why) == (wanted in {"auto", "wasm"})
    assert ("SANDBOX is none" in why) == (wanted == "none")


def test_the_runner_that_is_asked_for_is_taken(runner, tmp_path):
    sandbox.configure(tmp_path, wanted=runner.name)
    found = sandbox.find_runner()
    assert found is not None
    assert found.name == runner.name


def test_a_sandbox_of_another_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="auto, bubblewrap, wasm, none"):
        sandbox.configure(tmp_path, wanted="docker")


def test_a_memory_that_no_interpreter_starts_in_is_refused():
    with pytest.raises(ValueError, match="at least"):
        Limits(memory_bytes=1 << 20)


def test_limits_outside_what_the_contract_allows_are_refused():
    for seconds in (0, -1, 121, math.nan):
        with pytest.raises(ValueError, match="at most 120 seconds"):
            Limits(seconds=seconds)


def test_no_more_places_are_held_than_there_are(tmp_path: Path):
    running, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal running, most
        for _ in range(20):
            with Slot(tmp_path, 2) as slot:
                slot.take()
                with lock:
                    running += 1
                    most = max(most, running)
                with lock:
                    running -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 2


def test_who_does_not_wait_gets_no_place_that_is_held(tmp_path: Path):
    with Slot(tmp_path, 1) as first, Slot(tmp_path, 1) as second:
        assert first.take()
        assert not second.take(wait=False)
        first.release()
        assert second.take(wait=False)


@given(st.binary(max_size=80))
def test_no_bytes_without_the_nonce_are_a_score(said: bytes):
    nonce = b"5f" * 16
    result = CaseExchange(said, late=False).result(nonce, 0, Limits())
    assert result.end == "lost" or said.startswith(nonce)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_only_finite_values_are_scores(value: float):
    result = CallResult.scored(value)
    assert (result.end == "scored") == math.isfinite(value)


@pytest.mark.parametrize("machine", CALLS)
def test_a_filter_is_whole_steps_that_end_in_a_return(machine: str):
    program = seccomp_program(machine)
    assert len(program) % 8 == 0
    assert program[-8:-6] == b"\x06\x00"


SOURCE = "def grade(sample, item): return 0.5"


@pytest.fixture
def fresh(runner: SandboxPool) -> Iterator[SandboxPool]:
    """The runner with an empty idle."""
    one = replace(runner, idle=IdleSandboxes())
    yield one
    one.idle.clear()


def processes(runner: SandboxPool) -> list[Popen[bytes]]:
    return [one.process for _, _, one in runner.idle.kept]


def grade_one(runner: SandboxPool, source: str = SOURCE) -> None:
    assert runner.run(source, [Case({}, {})], Limits()) == [CallResult("scored", 0.5)]


def test_the_next_batch_of_a_source_finds_its_sandbox_waiting(fresh):
    grade_one(fresh)
    [waits] = processes(fresh)
    grade_one(fresh)
    assert processes(fresh) == [waits]
    grade_one(fresh, SOURCE + "  # another")
    assert processes(fresh)[0] is waits
    assert len(processes(fresh)) == min(2, os.cpu_count() or 1)


@as_every_user
def test_a_sandbox_outlives_the_thread_that_asked_for_it(fresh):
    """The kernel kills a process with the thread that started it, where it was told to."""
    cases = [Case({}, {})] * 100  # enough for a helper's sandbox
    asking = threading.Thread(target=fresh.run, args=(SOURCE, cases, Limits()))
    asking.start()
    asking.join()
    time.sleep(0.3)
    assert processes(fresh)
    assert [one.poll() for one in processes(fresh)] == [None] * len(processes(fresh))


def test_a_sandbox_that_waits_in_vain_is_closed(fresh, monkeypatch):
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.1)
    grade_one(fresh)
    [waits] = processes(fresh)
    assert waits.wait(patience(10)) is not None
    assert processes(fresh) == []


def test_no_more_sandboxes_wait_than_there_are_cores(fresh):
    for number in range((os.cpu_count() or 1) + 1):
        grade_one(fresh, f"{SOURCE}  # {number}")
    assert len(processes(fresh)) == (os.cpu_count() or 1)


def test_a_sandbox_that_died_waiting_is_not_used(fresh):
    grade_one(fresh)
    [waits] = processes(fresh)
    waits.kill()
    waits.wait()
    grade_one(fresh)
    assert [one.poll() for one in processes(fresh) if one is not waits] == [None]
