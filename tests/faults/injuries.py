"""The ways to hurt a system; each returns when its injury is over, not when all is well."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import psutil

from tests.patience import wait_until

if TYPE_CHECKING:
    from tests.faults.system import System

# Promise 1: nothing of a killed `up` is left 15 s later, or after so much of a shortened grace.
GONE_SECONDS = 15
READY_SECONDS = 20


@dataclass(frozen=True)
class Injury:
    """strike: does it, for so many seconds; those are between `shortest` and `longest`.

    deaths: how many times what is in flight, or answered and not yet stored, may be lost by it.
    starves: nothing can be stored while it lasts, so that what is answered meanwhile may be lost.
    harms: the answers of model calls. needs: what not every system has, "disk" or "services".
    """

    strike: Callable[["System", float], None]
    deaths: int = 1
    shortest: float = 0.0
    longest: float = 0.0
    starves: bool = False
    harms: bool = False
    needs: str = ""


def kill(process: psutil.Process | None) -> None:
    if process is not None:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def kill_busy_worker(system: "System", _seconds: float) -> None:
    busy = system.busy_workers()
    kill(system.pick(busy or system.cluster_processes()))


def kill_idle_worker(system: "System", _seconds: float) -> None:
    """One that waits for work, or one of those that hand out work and collect what came of it."""
    busy = system.busy_workers()
    idle = [process for process in system.cluster_processes() if process not in busy]
    kill(system.pick(idle))


def pause_busy_worker(system: "System", seconds: float) -> None:
    """Longer than its lease: it wakes when others have its work, with answers to be stored."""
    worker = system.pick(system.busy_workers() or system.cluster_processes())
    if worker is None:
        return
    with suppress(psutil.NoSuchProcess):
        worker.suspend()
        time.sleep(seconds)
        worker.resume()


def kill_sentinel(system: "System", _seconds: float) -> None:
    kill(system.sentinel())


def kill_cluster(system: "System", _seconds: float) -> None:
    kill(system.served.leader("qcluster"))


def kill_web_server(system: "System", _seconds: float) -> None:
    kill(system.served.leader("granian"))


def kill_web_worker(system: "System", _seconds: float) -> None:
    leader = system.served.leader("granian")
    if leader is not None:
        with suppress(psutil.NoSuchProcess):
            kill(system.pick(leader.children()))


def kill_main(system: "System", _seconds: float) -> None:
    """The supervisor, which an operator's own supervisor then starts again."""
    os.kill(system.served.pid, signal.SIGKILL)
    gone = system.served.wait_gone(GONE_SECONDS)
    system.keeps_promise(gone, GONE_SECONDS, "the end of what a killed supervisor left")
    system.served.start()


def kill_everything(system: "System", seconds: float) -> None:
    system.served.kill()
    time.sleep(seconds)
    system.served.start()


def stop_and_start(system: "System", _seconds: float) -> None:
    assert system.served.stop() == 0, system.served.log
    system.served.start()


def fill_disk(system: "System", seconds: float) -> None:
    assert system.disk is not None
    ballast = system.disk / "ballast"
    ends_at = time.monotonic() + seconds
    with ballast.open("wb", buffering=0) as full:
        while time.monotonic() < ends_at:
            try:
                full.write(b"\0" * 0x4000)
            except OSError:
                time.sleep(0.02)
    ballast.unlink()


def restart_postgres(system: "System", seconds: float) -> None:
    assert system.postgres is not None
    system.postgres.end(signal.SIGKILL)
    time.sleep(seconds)
    system.postgres.start()


def restart_redis(system: "System", seconds: float) -> None:
    assert system.redis is not None
    system.redis.end(signal.SIGKILL)
    time.sleep(seconds)
    system.redis.start()


def harm_answers(how: str, system: "System", seconds: float) -> None:
    system.models.misbehave(how)
    time.sleep(seconds)
    system.models.misbehave("")


def misbehaving(how: str) -> Injury:
    return Injury(partial(harm_answers, how), deaths=0, shortest=0.5, longest=3, harms=True)


INJURIES: dict[str, Injury] = {
    "busy-worker": Injury(kill_busy_worker),
    "idle-worker": Injury(kill_idle_worker),
    "paused-worker": Injury(pause_busy_worker, shortest=5, longest=8),
    "sentinel": Injury(kill_sentinel),
    "cluster": Injury(kill_cluster),
    "web-server": Injury(kill_web_server, deaths=0),
    "web-worker": Injury(kill_web_worker, deaths=0),
    "main": Injury(kill_main),
    "everything": Injury(kill_everything, shortest=0, longest=2),
    "stop": Injury(stop_and_start),
    "disk": Injury(fill_disk, shortest=1, longest=8, starves=True, needs="disk"),
    "postgres": Injury(restart_postgres, shortest=0, longest=6, starves=True, needs="services"),
    "redis": Injury(restart_redis, shortest=0, longest=6, needs="services"),
    "hang": misbehaving("hang"),
    "reset": misbehaving("reset"),
    "garbage": misbehaving("garbage"),
    "truncate": misbehaving("truncate"),
    "flood": misbehaving("flood"),
    "drip": misbehaving("drip"),
}


def wait_recovered(system: "System") -> None:
    """Wait until requests are answered again, as is promised after a web server's death."""
    took = wait_until(system.served.ready, READY_SECONDS, lambda: system.served.log)
    system.keeps_promise(took, READY_SECONDS, "an answer")
