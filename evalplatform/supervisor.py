"""Keep the web server and the cluster running: start, watch, restart, stop, leave nothing behind.

Each runs in a session of its own, at the other end of a lifeline (see `lifeline`), and is told to
stop by closing that alone: a signal to a whole process group would reach django-q2's workers in
the middle of a task and hang their cluster.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from evalplatform import lifeline

ROOT = Path(__file__).resolve().parent.parent
HEALTHY_SECONDS = 30.0  # running this long, a service is forgiven its earlier deaths
FIRST_DELAY_SECONDS = 0.5
LAST_DELAY_SECONDS = 10.0
LOOK_SECONDS = 0.1
LONGEST_PATIENCE = 8  # times as long as usual, with a cluster that looks stuck

log = logging.getLogger(__name__)


def session(leader: int) -> list[int]:
    """List the living processes of the session that `leader` opened, without zombies."""
    found = []
    for pid in psutil.pids():
        # Processes may end, or be hidden from us, between two looks.
        with suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def kill_session(leader: int) -> bool:
    """Send SIGKILL to the rest of a session. Returns True when nothing of it was left."""
    left = session(leader)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not left


class Service:
    """A command to be kept running.

    command: a module or a script's path, and its arguments, as `lifeline` takes them.
    `poll` does all the work, in small steps that never wait.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self.command = command
        # Our modules are found from any working directory.
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment}
        self.wanted = True
        self.restart_requested = False
        self.process: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None
        self._started_at = 0.0
        self._start_due_at = 0.0
        self._kill_due_at = float("inf")
        self._delay = FIRST_DELAY_SECONDS

    @property
    def running_seconds(self) -> float:
        return time.monotonic() - self._started_at if self.process else 0.0

    def request_restart(self) -> None:
        """Ask, from any thread, for an orderly end and a new start."""
        self.restart_requested = True

    def stop(self) -> None:
        """Ask for an orderly end and no new start; after lifeline.GRACE_SECONDS it is killed."""
        self.wanted = False
        self._disconnect()

    def kill_now(self) -> None:
        """End the grace of a service that was told to stop."""
        self._kill_due_at = 0.0

    def poll(self) -> None:
        """Start, reap, kill or replace the process where that is due."""
        now = time.monotonic()
        if self.process is None:
            if self.wanted and now >= self._start_due_at:
                self._start()
        elif (code := self.process.poll()) is not None:
            # What has lost its leader is killed first: a cluster's orphans go on taking tasks.
            if kill_session(self.process.pid):
                self._reap(code)
        elif now >= self._kill_due_at:
            kill_session(self.process.pid)
        elif self.restart_requested or self._asks_for_replacement():
            self.restart_requested = False
            log.warning("The %s is replaced", self.name)
            self._disconnect()

    def _asks_for_replacement(self) -> bool:
        if self._lifeline is not None:
            with suppress(BlockingIOError):
                return bool(self._lifeline.recv(1))
        return False

    def _start(self) -> None:
        self._lifeline, theirs = socket.socketpair()
        self._lifeline.setblocking(False)
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - the command is ours
                [sys.executable, "-m", lifeline.__name__, *self.command],
                env={**self.environment, lifeline.ENVIRONMENT: str(theirs.fileno())},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.restart_requested = False
        self._started_at = time.monotonic()
        self._kill_due_at = float("inf")

    def _disconnect(self) -> None:
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None
            self._kill_due_at = time.monotonic() + lifeline.GRACE_SECONDS

    def _reap(self, code: int) -> None:
        if self.running_seconds > HEALTHY_SECONDS:
            self._delay = FIRST_DELAY_SECONDS
        if self.wanted:
            log.warning(
                "The %s ended (%s) and is started again in %.1f s",
                *(self.name, code, self._delay),
            )
        self.process = None
        self._disconnect()
        self._start_due_at = time.monotonic() + self._delay
        self._delay = min(2 * self._delay, LAST_DELAY_SECONDS)


class Supervisor:
    """Runs services until SIGTERM or SIGINT, and sweeps meanwhile.

    ready: polled until it is true; then `announce` is called, once.
    sweep, is_stuck: called every `sweep_seconds` from a thread. They may raise: a database that
    is away must not end the supervisor. When `is_stuck` has been true for `stuck_seconds` while
    the last of the services, the cluster, ran, the cluster is replaced. Where that did not help,
    the next one has twice as long, since on a slow machine none would ever finish starting.
    """

    def __init__(
        self,
        services: Sequence[Service],
        *,
        ready: Callable[[], bool],
        announce: Callable[[], None],
        sweep: Callable[[], None],
        is_stuck: Callable[[], bool],
        sweep_seconds: float,
        stuck_seconds: float,
    ) -> None:
        self.services = services
        self.ready = ready
        self.announce = announce
        self.sweep = sweep
        self.is_stuck = is_stuck
        self.sweep_seconds = sweep_seconds
        self.stuck_seconds = stuck_seconds
        self._stops_asked = 0
        self._stopping = threading.Event()

    def run(self) -> None:
        """Run until a signal asks for the end and no process of any service is left."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        for work in (self._keep_sweeping, self._announce_when_ready):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()
        while not self._stops_asked:
            self._poll_all()
        self._stopping.set()
        for service in self.services:
            service.stop()
        while any(service.process for service in self.services):
            if self._stops_asked > 1:
                for service in self.services:
                    service.kill_now()
            self._poll_all()

    def _ask_to_stop(self, *_signal: object) -> None:
        # Only counted: an Event set in a handler could deadlock with the thread it interrupted.
        self._stops_asked += 1

    def _poll_all(self) -> None:
        for service in self.services:
            service.poll()
        time.sleep(LOOK_SECONDS)

    def _announce_when_ready(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            if self.ready():
                self.announce()
                return

    def _keep_sweeping(self) -> None:
        cluster = self.services[-1]
        stuck_since = None
        patience = self.stuck_seconds
        over = False
        while not over:
            try:
                # Before the sweep: nobody has had time to hear a bell that it rings.
                now = time.monotonic()
                stuck_since = (stuck_since or now) if self.is_stuck() else None
                self.sweep()
                if stuck_since is None:
                    patience = self.stuck_seconds
                elif min(now - stuck_since, cluster.running_seconds) > patience:
                    log.warning("The %s looks stuck for %.1f s", cluster.name, patience)
                    cluster.request_restart()
                    stuck_since = now
                    patience = min(2 * patience, LONGEST_PATIENCE * self.stuck_seconds)
            except Exception:
                log.exception("The sweep failed and is tried again")
                stuck_since = None
            over = self._stopping.wait(self.sweep_seconds)
