"""Run graders under bubblewrap: namespaces of their own, a few read-only folders, no privileges."""

import os
import random
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from apps.sandbox import driver, grading, packages
from apps.sandbox.base import Limits, Refusal, probe
from apps.sandbox.pool import SandboxPool
from apps.sandbox.process import SandboxProcess

# The driver and its neighbour, in a package of their own.
OWN = {
    Path("/sandbox", path.name): path for path in (Path(driver.__file__), Path(grading.__file__))
}
START = "import sys; sys.path.append('/'); from sandbox.driver import main; sys.path.pop(); main()"
# Users that no system hands out, one for each sandbox, so that they share no count of processes.
FIRST_USER, USER_COUNT = 1_879_048_192, 1 << 20
NOBODY = 65534
LIBRARY_FOLDERS = ("/lib", "/usr/lib")
MORE_LIBRARIES = ("/lib64", "/usr/lib64", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
# One thread a library: a grader has one core, and threads would not survive the fork of a case.
ENVIRONMENT = {
    "PATH": "/nowhere",
    "HOME": driver.SCRATCH,
    "TMPDIR": driver.SCRATCH,
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Bubblewrap(SandboxPool):
    """The runner of Linux machines with bubblewrap.

    as_root: started by root, its graders become a user of their own, without a user namespace;
    else they run in a new one, which root must not choose: its graders would own the machine's
    devices, whatever they are called inside.
    """

    as_root: bool = False

    name = "bubblewrap"

    def probe(self) -> Refusal | None:
        if shutil.which("bwrap") is None:
            return Refusal("bubblewrap is not installed")
        if os.uname().machine not in driver.CALLS:
            return Refusal(f"there is no system call filter for {os.uname().machine}")
        return probe(self)

    def packages(self) -> dict[str, str]:
        return packages.versions()

    def command(self, limits: Limits) -> list[str]:
        """The command line of a sandbox, the driver's included."""
        words = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
        words += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--as-pid-1"]
        words += ["--hostname", "sandbox", "--cap-drop", "ALL"]
        if self.as_root:
            # Given up by the driver when it becomes another user, before it reads any source.
            words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        else:
            words += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
            words += ["--disable-userns"] if _can_disable_userns() else []
        words.append("--clearenv")
        for name, value in ENVIRONMENT.items():
            words += ["--setenv", name, value]
        words += _mounts()
        words += ["--perms", "1777", "--size", str(limits.disk_bytes), "--tmpfs", driver.SCRATCH]
        words += ["--chdir", driver.SCRATCH, "--remount-ro", "/", "--"]
        return [*words, _interpreter(), "-I", "-S", "-B", "-X", "utf8", "-c", START]

    def open(self, source: str, limits: Limits) -> SandboxProcess:
        user = FIRST_USER + random.randrange(USER_COUNT) if self.as_root else None  # noqa: S311  no secret
        return SandboxProcess(self.command(limits), self.setup(source, limits, user=user))


@cache
def _can_disable_userns() -> bool:
    options = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False)  # noqa: S607  as it is run
    return "--disable-userns" in options.stdout


def _interpreter() -> str:
    """The interpreter behind our virtual environment, which itself is not shown."""
    return os.path.realpath(sys.executable)


@cache
def _mounts() -> list[str]:
    """Options that show the interpreter, its library, the packages and nothing else."""
    shown = [_libraries(Path(folder)) for folder in LIBRARY_FOLDERS]
    shown += [*MORE_LIBRARIES, _interpreter(), sysconfig.get_path("stdlib")]
    shown.append(sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix}))
    if library := sysconfig.get_config_var("INSTSONAME"):
        shown.append(os.path.join(sysconfig.get_config_var("LIBDIR"), library))
    sources = {Path(path): Path(path) for path in shown if os.path.exists(path)}
    packed = {Path(driver.PACKAGES, entry.name): entry for entry in packages.entries()}
    sources |= packed | OWN
    devices = [Path(path) for path in DEVICES]
    # Made beforehand: what bubblewrap makes on the way, only root may enter.
    parents = {parent for path in (*sources, *devices) for parent in path.parents}
    parents.add(Path(driver.PACKAGES))
    words: list[str] = []
    for folder in sorted(parents - set(sources) - {Path("/")}):
        words += ["--dir", str(folder)]
    for path, source in sources.items():
        if source.is_symlink():
            words += ["--symlink", str(source.readlink()), str(path)]
        else:
            words += ["--ro-bind", str(source), str(path)]
    # What is installed beside the interpreter is not all meant for graders.
    for neighbour in _neighbours():
        words += ["--tmpfs", neighbour, "--remount-ro", neighbour]
    for device in devices:
        words += ["--dev-bind", str(device), str(device)]
    return words


def _libraries(folder: Path) -> str:
    """The part of the folder that holds shared libraries, where the system keeps them apart."""
    own = folder / (sysconfig.get_config_var("MULTIARCH") or ".")
    return str(own if own.is_dir() and not folder.is_symlink() else folder)


def _neighbours() -> list[str]:
    library = Path(sysconfig.get_path("stdlib"))
    usual = [library / "site-packages", library / "dist-packages"]
    usual += [Path("/usr/lib/python3/dist-packages")]
    shown = (Path(_libraries(Path("/usr/lib"))), library)
    return [
        str(folder)
        for folder in usual
        if folder.is_dir() and any(folder.is_relative_to(one) for one in shown)
    ]
