"""Run graders under bubblewrap: own namespaces, a few read-only folders, no privileges."""

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

# The program inside: the driver and the module it calls graders with, as the package `sandbox`.
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
    """The runner for Linux machines with bubblewrap.

    as_root: for a server that root started. Each sandbox then becomes an unused user of its own and
    needs no user namespace; in one, root's graders would still own the machine's devices. False:
    each sandbox has a user namespace in which it is nobody.
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
        """Build the command line of a sandbox, the driver's part included."""
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
    """Return the interpreter behind our virtual environment; the environment is not mounted."""
    return os.path.realpath(sys.executable)


@cache
def _mounts() -> list[str]:
    """Build the options that mount the interpreter, its library and the packages, read-only."""
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
    """Return the part of the folder that holds shared libraries, where a system has such a part."""
    own = folder / (sysconfig.get_config_var("MULTIARCH") or ".")
    return str(own if own.is_dir() and not folder.is_symlink() else folder)


def _neighbours() -> list[str]:
    """Return the package folders beside the interpreter, to be covered by empty ones."""
    library = Path(sysconfig.get_path("stdlib"))
    usual = [library / "site-packages", library / "dist-packages"]
    usual += [Path("/usr/lib/python3/dist-packages")]
    shown = (Path(_libraries(Path("/usr/lib"))), library)
    return [
        str(folder)
        for folder in usual
        if folder.is_dir() and any(folder.is_relative_to(one) for one in shown)
    ]
