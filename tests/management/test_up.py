"""`manage.py up` as an operator sees it: what is killed comes back, what is ended is gone."""

import http.client
import os
import signal
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from tests.patience import patience, wait_until
from tests.served import Managed, Served


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as served:
        yield served


@pytest.fixture(scope="module")
def _lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("up")) as served:
        yield served


@pytest.fixture
def lasting(_lasting: Served) -> Served:
    """Keep one server for all tests after which it is whole again."""
    wait_until(lambda: whole(_lasting), 20, lambda: f"wholeness\n{_lasting.log}")
    return _lasting


def alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def cluster_workers(served: Served) -> list[psutil.Process]:
    """Return the worker processes, which django-q2 forks before its monitor and its pusher."""
    with suppress(psutil.Error):
        if (leader := served.leader("qcluster")) and (sentinels := leader.children()):
            children = sorted(sentinels[0].children(), key=lambda child: child.create_time())
            return children[:-2]
    return []


def whole(served: Served) -> bool:
    return served.ready() and len(cluster_workers(served)) == 2


def replaced(served: Served, word: str, pid: int) -> bool:
    leader = served.leader(word)
    return leader is not None and leader.pid != pid


def works(served: Served) -> None:
    """Fail unless the cluster works."""
    made = served.data_dir / f"made-{os.urandom(4).hex()}"
    served.ring("os.mkdir", str(made))
    wait_until(made.exists, 10, lambda: f"work\n{served.log}")


def begin_task(served: Served, seconds: int) -> Path:
    """Keep a worker busy for so long; return the folder that appears when it has finished."""
    begun, ended = served.data_dir / "begun", served.data_dir / "ended"
    task = f"mkdir {begun}; sleep {seconds}; mkdir {ended}"
    served.ring("subprocess.check_call", ["sh", "-c", task])
    wait_until(begun.exists, 10, lambda: f"the task\n{served.log}")
    return ended


def test_a_signal_lets_a_running_task_finish_and_leaves_nothing(served):
    with closing(http.client.HTTPConnection("127.0.0.1", served.port)) as idle_client:
        idle_client.request("GET", "/readyz")
        idle_client.getresponse().read()
        ended = begin_task(served, seconds=2)
        served.send(signal.SIGTERM)
        served.wait_gone(20)
    assert served.process.returncode == 0
    assert ended.exists()
    assert served.log.splitlines() == [
        f"Evalplatform is up at {served.base_url}  (Ctrl-C stops it)"
    ]


@pytest.mark.once("no database has a part in it")
@pytest.mark.parametrize("is_busy", [False, True])
def test_nothing_is_left_of_a_killed_up(tmp_path, is_busy):
    """The idle end at once; those at work have the grace."""
    grace = 3 if is_busy else patience(15)
    with Served(tmp_path, {"EVALPLATFORM_GRACE_SECONDS": str(grace)}) as served:
        wait_until(lambda: whole(served), 20, "wholeness")
        assert len(served.processes()) == 9  # 1 supervisor, 2 of the web server, 6 of the cluster
        if is_busy:
            begin_task(served, seconds=600)
        served.send(signal.SIGKILL)
        took = served.wait_gone(15)
    assert (took > grace - 1) is is_busy


@pytest.mark.once("no database has a part in it")
def test_a_killed_web_server_answers_again(lasting):
    leader = lasting.leader("granian")
    leader.kill()
    wait_until(lambda: replaced(lasting, "granian", leader.pid) and lasting.ready(), 20, "answer")


@pytest.mark.once("no database has a part in it")
def test_a_killed_web_worker_is_replaced(lasting):
    leader = lasting.leader("granian")
    (worker,) = leader.children()
    worker.kill()
    wait_until(lambda: not alive(worker) and lasting.ready(), 20, "an answer")
    assert lasting.leader("granian") == leader


def test_a_busy_worker_finishes_its_task_when_another_is_killed(lasting):
    leader, workers = lasting.leader("qcluster"), cluster_workers(lasting)
    ended = begin_task(lasting, seconds=2)
    (idle,) = (worker for worker in workers if not worker.children())
    idle.kill()
    wait_until(lambda: replaced(lasting, "qcluster", leader.pid), 20, "another cluster")
    assert ended.exists()
    works(lasting)


def test_a_killed_idle_worker_costs_no_more_than_a_new_cluster(lasting):
    leader = lasting.leader("qcluster")
    cluster_workers(lasting)[0].kill()
    wait_until(lambda: replaced(lasting, "qcluster", leader.pid), 20, "another cluster")
    works(lasting)


def test_a_killed_cluster_works_again_and_its_orphans_do_not(lasting):
    leader = lasting.leader("qcluster")
    orphans = leader.children(recursive=True)
    leader.kill()
    wait_until(lambda: replaced(lasting, "qcluster", leader.pid), 20, "another cluster")
    assert not any(alive(orphan) for orphan in orphans)
    works(lasting)


@pytest.mark.slow
def test_recycled_workers_leave_the_cluster_alone(lasting):
    leader, workers = lasting.leader("qcluster"), cluster_workers(lasting)
    lasting.ring("os.getpid", times=420)
    wait_until(lambda: not any(alive(worker) for worker in workers), 20, "recycling")
    works(lasting)
    assert lasting.leader("qcluster") == leader


@pytest.mark.once("no database has a part in it")
def test_a_port_in_use_is_an_error_that_says_so_and_leaves_nothing(lasting, tmp_path):
    with Managed(tmp_path, "up", environment={"PORT": str(lasting.port)}) as second:
        second.wait_gone(10)
        assert second.process.returncode == 1
        assert f"Cannot listen at 127.0.0.1, port {lasting.port}" in second.log
        assert second.log.count("\n") == 1


@pytest.mark.slow
def test_a_second_up_may_share_the_data(lasting):
    with Served(lasting.data_dir) as second:
        works(second)
        assert second.stop() == 0
    works(lasting)
