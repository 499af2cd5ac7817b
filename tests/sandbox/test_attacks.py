"""Hostile graders: nothing that they try works, and the cases beside them are graded right.

Each attack is a grade() that attacks on the middle case of three and scores 0.5 on the others.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from apps.sandbox import CallResult, Case, Limits, pool
from apps.sandbox.pool import SandboxPool
from tests.patience import patience, wait_until
from tests.sandbox.conftest import TIGHT
from tests.sandbox.runners import as_every_user, natively, natively_as_every_user

LIMITS = Limits(memory_bytes=512 << 20, disk_bytes=4 << 20)
RIGHT = CallResult("scored", 0.5)


HOST_PATHS = [
    "/etc/shadow",
    "/etc/passwd",
    "/proc/1/environ",
    "/proc/self/environ",
    f"/proc/{os.getpid()}/environ",
    "/proc/self/mem",
    "/sys/kernel/uevent_seqnum",
    "/run",
    os.path.expanduser("~/.ssh"),
    str(Path(__file__).parents[2] / "evalplatform" / "settings.py"),
    str(Path(__file__).parents[2] / "manage.py"),
    __file__,
]


@as_every_user
def test_no_file_of_the_host_is_read(run):
    source = "def grade(sample, item): return len(open(item['path'], 'rb').read(1))"
    items = [{"path": path} for path in HOST_PATHS]
    for path, result in zip(HOST_PATHS, run(source, items), strict=True):
        assert result.end == "raised", path
        assert "FileNotFoundError" in result.text, path


@as_every_user
def test_a_file_that_everyone_may_read_is_not_there(attack, secret_file):
    assert "FileNotFoundError" in attack("open(item['path'])\nreturn 1", path=str(secret_file)).text


@as_every_user
def test_the_file_system_holds_an_interpreter_and_nothing_of_ours(attack):
    body = """
        found = [
            folder + "/" + name
            for folder, folders, files in os.walk("/")
            for name in folders + files
            if name in item["names"]
        ]
        if found:
            raise AssertionError(found)
        return 0.25
    """
    names = ["django", "evalplatform", "manage.py", "db.sqlite3", "shadow", "environ", "home"]
    assert attack(body, names=names) == CallResult("scored", 0.25)


def test_nothing_of_the_environment_is_seen(attack, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "a secret of the host")
    result = attack("raise ValueError(sorted(os.environ))")
    for name in set(os.environ) - {"HOME", "LANG", "PATH", "PWD", "TMPDIR"}:
        assert f"'{name}'" not in result.text
    assert attack("return 'secret of' in str(os.environ)") == CallResult("scored", 0.0)


@natively
def test_another_item_of_the_batch_is_not_in_reach(run):
    source = """
        import gc, os, tempfile

        def grade(sample, item):
            # What this process holds, and what an earlier one may have put where a later one looks.
            held = [one for one in gc.get_objects() if isinstance(one, dict) and "word" in one]
            seen = {one["word"] for one in held if isinstance(one["word"], str)}
            seen |= {name for name in os.listdir("/tmp")}
            with open(f"/tmp/{item['word']}", "w") as file:
                file.write(item["word"])
            return len(seen - {item["word"]})
    """
    items = [{"word": f"word-{number}"} for number in range(6)]
    assert run(source, items) == [CallResult("scored", 0.0)] * 6


@natively_as_every_user
def test_a_mark_left_on_the_scratch_folder_is_gone_for_the_next(run):
    source = """
        import os
        def grade(sample, item):
            before = os.stat("/tmp").st_mtime_ns == 77
            try:
                os.utime("/tmp", ns=(77, 77))
            except OSError:
                pass
            return before
    """
    assert run(source, [{}] * 3) == [CallResult("scored", 0.0)] * 3


@natively_as_every_user
def test_the_memory_of_the_driver_is_closed(attack):
    body = """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        parts = (ctypes.c_ulong * 4)()
        found = [libc.ptrace(16, 1, 0, 0), libc.ptrace(0x4206, 1, 0, 0),
                 libc.process_vm_readv(1, parts, 1, parts, 1, 0)]
        return max(found)
    """
    assert attack(body) == CallResult("scored", -1.0)


@pytest.mark.parametrize(
    "address",
    [("127.0.0.1", 5432), ("127.0.0.1", 6379), ("169.254.169.254", 80), ("8.8.8.8", 53)],
)
def test_no_socket_is_opened(attack, address):
    body = "import socket\nsocket.create_connection(item['address'], timeout=1)\nreturn 1"
    assert attack(body, address=address).end == "raised"


def test_a_server_on_loopback_is_out_of_reach(attack):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()[:2]
        socket.create_connection(address).close()
        body = "import socket\nsocket.create_connection(item['address'], timeout=1)\nreturn 1"
        assert attack(body, address=address).end == "raised"


def test_no_name_is_resolved(attack):
    assert attack("import socket\nsocket.gethostbyname('localhost.')\nreturn 1").end == "raised"


@natively_as_every_user
def test_no_namespace_is_left_for_another(attack):
    body = """
        import ctypes
        libc = ctypes.CDLL(None)
        return max(libc.unshare(0x10000000), libc.setns(0, 0), libc.chroot(b"/tmp"))
    """
    assert attack(body) == CallResult("scored", -1.0)


@natively_as_every_user
def test_no_privilege_is_regained(attack):
    body = """
        for change in (os.setuid, os.setgid):
            try:
                change(0)
            except OSError:
                continue
            return 1
        return 0
    """
    assert attack(body) == CallResult("scored", 0.0)


def test_an_endless_loop_ends_at_the_time_limit(attack):
    result = attack("while True: pass", seconds=TIGHT)
    assert result == CallResult("lost", text=f"Time limit: grade() had {TIGHT:g} seconds.")


def test_a_regular_expression_that_runs_wild_ends_at_the_time_limit(attack):
    result = attack("import re\nreturn bool(re.match(r'(a+)+$', 'a' * 64 + '!'))", seconds=TIGHT)
    assert result.end == "lost"
    assert "Time limit" in result.text


def test_who_ignores_every_signal_ends_at_the_time_limit(attack):
    body = """
        import signal
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        while True:
            time.sleep(1)
    """
    assert "Time limit" in attack(body, seconds=TIGHT).text


@natively
@pytest.mark.parametrize(
    "body",
    [
        "return len(b'x' * (1 << 40))",
        "held = []\nwhile True: held.append(bytearray(1 << 20))",
        "import mmap\nheld = []\nwhile True: held.append(mmap.mmap(-1, 1 << 24))",
        "import numpy\nreturn numpy.ones(1 << 32).sum()",
    ],
)
def test_a_memory_bomb_ends_at_the_memory_limit(attack, body):
    result = attack(body)
    assert result.end in {"lost", "raised"}
    assert "Memory limit: 512 MiB." in result.text or "Cannot allocate memory" in result.text


@natively_as_every_user
def test_a_fork_bomb_makes_not_one_process(attack):
    assert "PermissionError" in attack("while True: os.fork()").text


@natively
def test_a_fork_bomb_that_catches_its_errors_is_alone(attack):
    body = """
        while True:
            try:
                os.fork()
            except OSError:
                pass
    """
    assert "Time limit" in attack(body, seconds=TIGHT).text


@natively_as_every_user
def test_a_thread_bomb_meets_its_limit(attack, runner):
    body = """
        import threading
        threading.stack_size(1 << 16)
        count = 0
        try:
            while count < 1000:
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
                count += 1
        except RuntimeError:
            pass
        return count
    """
    result = attack(body)
    assert result.end == "scored"
    # Root's processes are counted against no limit, save that of their memory.
    is_counted = runner.as_root or os.geteuid() != 0
    assert result.value < (100 if is_counted else 1001)


@pytest.mark.parametrize("descriptor", [1, 2])
def test_a_flood_of_output_goes_nowhere(attack, descriptor):
    body = "for _ in range(1000): os.write(item['to'], b'x' * 65536)\nreturn 0.75"
    assert attack(body, to=descriptor) == CallResult("scored", 0.75)


@natively
def test_a_flood_on_every_descriptor_is_no_score(attack):
    body = """
        while True:
            for descriptor in range(3, 64):
                try:
                    os.write(descriptor, b"1.0\\n" * 10000)
                except OSError:
                    pass
    """
    result = attack(body)
    assert result.end == "lost"
    assert "Output limit" in result.text


def test_no_file_grows_over_its_limit(attack):
    body = """
        with open("/tmp/big", "wb") as file:
            for _ in range(64):
                file.write(bytes(1 << 20))
        return 1
    """
    result = attack(body)
    assert result.end == "raised"
    assert "OSError" in result.text


@natively_as_every_user
def test_many_files_do_not_pass_the_limit_of_the_disk(attack):
    body = """
        for number in range(64):
            with open(f"/tmp/{number}", "wb") as file:
                file.write(bytes(1 << 20))
        return 1
    """
    assert "No space left" in attack(body).text


@as_every_user
def test_nothing_is_written_outside_the_scratch_folder(attack):
    body = """
        written = []
        for folder, folders, files in os.walk("/"):
            if folder.startswith("/tmp"):
                continue
            try:
                os.close(os.open(folder + "/mine", os.O_CREAT | os.O_WRONLY))
                written.append(folder)
            except OSError:
                pass
        for path in ("/driver.py", sys.executable, os.__file__, "/etc/ld.so.cache"):
            try:
                os.close(os.open(path, os.O_RDWR))
                written.append(path)
            except OSError:
                pass
        if written:
            raise AssertionError(written)
        return 0.25
    """
    assert attack(body) == CallResult("scored", 0.25)


@natively_as_every_user
def test_no_node_of_the_host_is_changed(attack, runner):
    if not runner.as_root and os.geteuid() == 0:
        pytest.skip("root's graders never run so: they would own the devices")
    body = """
        changed = []
        for path in ("/dev/null", "/dev/urandom", "/driver.py", sys.executable, "/", "/dev"):
            for change in (lambda p: os.chmod(p, 0), lambda p: os.utime(p, (0, 0)), os.unlink):
                try:
                    change(path)
                    changed.append(path)
                except OSError:
                    pass
        if changed:
            raise AssertionError(changed)
        return 0.25
    """
    assert attack(body) == CallResult("scored", 0.25)
    assert Path("/dev/null").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("status", [0, 1])
def test_an_early_exit_is_no_score(attack, status):
    result = attack("os._exit(item['status'])", status=status)
    assert result == CallResult(
        "lost", text=f"The grader ended its process (exit status {status})."
    )


def test_sys_exit_is_an_exception_like_others(attack):
    result = attack("sys.exit(0)")
    assert result.end == "raised"
    assert "SystemExit: 0" in result.text


@natively
def test_a_crash_is_no_score(attack):
    result = attack("import ctypes\nctypes.string_at(0)")
    assert result == CallResult("lost", text="The grader's process was ended by SIGSEGV.")


@natively_as_every_user
def test_killing_the_driver_and_all_others_changes_nothing(attack):
    body = """
        import signal
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP):
            for target in (1, os.getppid(), -1):
                try:
                    os.kill(target, number)
                except OSError:
                    pass
        return 0.75
    """
    assert attack(body) == CallResult("scored", 0.75)


@natively_as_every_user
def test_the_limits_of_the_driver_are_not_changed(attack):
    body = """
        import resource
        resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))
    """
    assert "PermissionError" in attack(body).text


@natively
@pytest.mark.parametrize("ending", ["os._exit(0)", "return 1.0", "time.sleep(60)"])
def test_a_forged_result_on_any_descriptor_is_no_score(run, ending):
    source = """
        import os, time
        def grade(sample, item):
            if not item["forged"]:
                return 0.5
            for descriptor in range(3, 64):
                try:
                    os.write(descriptor, item["forged"].encode("latin-1"))
                except OSError:
                    pass
    """
    source = textwrap.dedent(source) + textwrap.indent(ending, "    ")
    guesses = ["1.0", '{"value": 1.0}', '{"score": 1.0}\n', "V" + "\0" * 6 + "ð?", "0" * 32 + "V1"]
    if "sleep" in ending:  # every guess is late, whatever it is
        del guesses[1:]
    items = [{"forged": text} for guess in guesses for text in (guess, "")]
    results = run(source, items, replace(LIMITS, seconds=TIGHT))
    assert [one.end for one in results] == ["lost", "scored"] * len(guesses)


@natively
def test_a_closed_channel_is_no_score(attack):
    assert attack("os.closerange(0, 64)\nreturn 1.0").end == "lost"


@natively
def test_a_thread_left_running_does_not_speak_for_grade(attack):
    body = """
        import threading
        def exchange():
            while True:
                for descriptor in range(3, 64):
                    try:
                        os.write(descriptor, b"1.0")
                    except OSError:
                        pass
        threading.Thread(target=exchange).start()
        time.sleep(0.05)
        return 1.0
    """
    assert attack(body).end == "lost"


@natively
def test_a_silent_thread_ends_with_its_process(attack):
    body = """
        import threading
        threading.Thread(target=time.sleep, args=(60,)).start()
        return 0.75
    """
    assert attack(body) == CallResult("scored", 0.75)


@natively
def test_what_is_patched_in_one_process_stays_there(attack):
    body = """
        import builtins, json, math, struct
        driver, grading = sys.modules["sandbox.driver"], sys.modules["sandbox.grading"]
        grading.as_score = lambda returned: 1.0
        grading.call = grading.traceback_text = driver.call = driver.end_all = None
        json.loads = struct.Struct = math.isfinite = os.listdir = None
        builtins.float = lambda value: 1.0
        return 0.0
    """
    assert attack(body).end in {"scored", "lost"}


def test_no_exit_handler_or_finaliser_changes_the_score(attack):
    body = """
        import atexit
        atexit.register(os._exit, 0)
        class Late:
            def __del__(self):
                os._exit(0)
        sys.late = Late()
        return 0.75
    """
    assert attack(body) == CallResult("scored", 0.75)


STARTS = ("from sandbox.driver import main", "sandbox.webassembly.host import main")


def sandboxes(of: int) -> set[psutil.Process]:
    """Find the sandboxes that this process and its children have started."""
    found = set()
    for one in psutil.Process(of).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(start in " ".join(one.cmdline()) for start in STARTS):
                found.add(one)
    return found


@as_every_user
def test_no_process_is_left_behind(attack, monkeypatch):
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.2)
    known = sandboxes(os.getpid())
    attack("os.posix_spawn(sys.executable, [sys.executable, '-c', 'while True: pass'], {})")
    attack("import subprocess\nsubprocess.Popen([sys.executable, '-c', 'while True: pass'])")
    attack("time.sleep(1000)", seconds=TIGHT)
    wait_until(lambda: not sandboxes(os.getpid()) - known, 10, "the end of all sandboxes")


@as_every_user
def test_a_sandbox_dies_with_a_worker_that_is_killed(runner: SandboxPool):
    program = (
        "from apps.sandbox import Case, Limits\n"
        f"from {type(runner).__module__} import {type(runner).__name__}\n"
        "from pathlib import PosixPath\n"
        f"runner = {runner!r}\n"
        "runner.run('def grade(s, i):\\n  while True: pass', [Case({}, {})], Limits(120))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2]) as worker:
        wait_until(lambda: sandboxes(worker.pid), 20, "a sandbox")
        started = sandboxes(worker.pid)
        worker.send_signal(signal.SIGKILL)
    _, left = psutil.wait_procs(started, patience(10))
    assert not left
    # And its slot is free again.
    assert runner.run("def grade(s, i): return 0.5", [Case({}, {})], Limits()) == [RIGHT]
