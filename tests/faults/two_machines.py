"""Two machines, one of which is cut off from the other in the middle of a run.

python -m tests.faults.two_machines

A machine is a network namespace with a host name of its own. One has PostgreSQL, Redis and
`manage.py up`, the other `manage.py worker`; the model server stays in reach of both. A process of
its own, since pytest's may speak to loopback only.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psycopg
from cryptography.fernet import Fernet

from tests.faults.services import Postgres, Redis, missing_services
from tests.faults.system import DELAY, SHORTENED, Site
from tests.model_server import running
from tests.patience import wait_until
from tests.served import ROOT, Managed, Served

ROWS = 1_500
CONCURRENCY = 24
LEASE_SECONDS = float(SHORTENED["ENGINE_LEASE_SECONDS"])
CUT_SECONDS = 3 * LEASE_SECONDS
# Between the machines, from us to the first, and from us to the second: the other end is .2.
BETWEEN, TO_FIRST, TO_SECOND = "10.203.1", "10.203.2", "10.203.3"
POSTGRES_PORT, REDIS_PORT, WEB_PORT = 8640, 8641, 8642


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def missing_network() -> str:
    """Why machines cannot be made here; empty when they can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces need root and the command ip"
    name = f"evalplatform-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True, text=True)
    if made.returncode:
        return f"network namespaces cannot be made: {made.stderr.strip()}"
    run("ip", "netns", "delete", name)
    return ""


@dataclass
class Network:
    """Two namespaces, a wire between them, and one from each to us."""

    first: str
    second: str

    def __enter__(self) -> Self:
        for name in (self.first, self.second):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        self._wire(BETWEEN, self.first, self.second)
        self._wire(TO_FIRST, None, self.first)
        self._wire(TO_SECOND, None, self.second)
        run("ip", "-n", self.second, "route", "add", f"{TO_FIRST}.1", "via", f"{TO_SECOND}.1")
        return self

    def __exit__(self, *_exception: object) -> None:
        for name in (self.first, self.second):
            run("ip", "netns", "delete", name)

    def _wire(self, network: str, one: str | None, other: str) -> None:
        ends = [(one, f"w{network[-1]}a-{os.getpid()}"), (other, f"w{network[-1]}b-{os.getpid()}")]
        run("ip", "link", "add", ends[0][1], "type", "veth", "peer", "name", ends[1][1])
        for number, (namespace, device) in enumerate(ends, 1):
            within = ("-n", namespace) if namespace else ()
            if namespace:
                run("ip", "link", "set", device, "netns", namespace)
            run("ip", *within, "address", "add", f"{network}.{number}/30", "dev", device)
            run("ip", *within, "link", "set", device, "up")

    def set_wire(self, state: str) -> None:
        """Cut the wire between the machines (`down`), or mend it (`up`)."""
        run("ip", "-n", self.first, "link", "set", f"w{BETWEEN[-1]}a-{os.getpid()}", state)


def on(machine: str) -> list[str]:
    """The prefix of a command that runs on a machine."""
    named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', machine]
    return ["ip", "netns", "exec", machine, *named]


class TwoMachines(Site):
    """The two at work; `served` is the first's, `worker` the second's."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="machines-"))
            folder.chmod(0o755)  # PostgreSQL is another user
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            names = (f"ev-first-{os.getpid()}", f"ev-second-{os.getpid()}")
            self.network = stack.enter_context(Network(*names))
            first, second = on(names[0]), on(names[1])
            host = f"{TO_FIRST}.2"
            self.postgres = stack.enter_context(
                Postgres(folder / "postgres", POSTGRES_PORT, host, first)
            )
            redis = stack.enter_context(Redis(folder / "redis", REDIS_PORT, host, first))
            self.models = stack.enter_context(running(delay=DELAY, host="0.0.0.0"))
            self.models_url = f"http://{TO_FIRST}.1:{self.models.port}/v1"
            shared = {
                **SHORTENED,
                "WORKERS": "2",
                "SECRET_KEY": secrets.token_urlsafe(48),
                "ENCRYPTION_KEY": Fernet.generate_key().decode(),
                "ALLOWED_HOSTS": host,
                "Q_CLUSTER_NAME": "machines",
            }
            here = {"DATABASE_URL": self.postgres.url(), "REDIS_URL": redis.url()}
            there = {
                "DATABASE_URL": self.postgres.url(f"{BETWEEN}.1"),
                "REDIS_URL": redis.url(f"{BETWEEN}.1"),
            }
            self.served = Served(
                folder / "first", shared | here, port=WEB_PORT, host=host, prefix=first
            )
            stack.enter_context(self.served)
            self.worker = stack.enter_context(
                Managed(folder / "second", "worker", environment=shared | there, prefix=second)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def holder(self) -> Callable[[], None]:
        """Lock the rows by which places are shared, from the second machine, as long as let."""
        code = (
            "import time\nfrom django.db import transaction\n"
            "from apps.inference.models import ModelEndpoint\n"
            "print('ready', flush=True)\n"
            "input()\n"
            "with transaction.atomic():\n"
            "    list(ModelEndpoint.objects.select_for_update())\n"
            "    print('held', flush=True)\n"
            "    time.sleep(600)\n"
        )
        worker = self.worker
        command = [sys.executable, str(ROOT / "manage.py"), "shell", "--no-imports", "-c", code]
        holder = subprocess.Popen(
            [*worker.prefix, *command],
            env={**worker.env, "EVALPLATFORM_ROLE": "cluster"},  # as the workers are connected
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(holder.wait)
        self._stack.callback(holder.kill)
        assert holder.stdin is not None
        assert holder.stdout is not None
        told, say = holder.stdout, holder.stdin
        assert told.readline() == "ready\n"

        def hold() -> None:
            say.write("\n")
            say.flush()
            assert told.readline() == "held\n"

        return hold

    def logs(self) -> str:
        return f"{self.served.log}\n--- the second machine\n{self.worker.log}"

    def hosts_at_work(self) -> set[str]:
        """The names of the machines whose workers hold a lease on something unfinished."""
        with psycopg.connect(self.postgres.url(f"{TO_FIRST}.2")) as connection:
            found = connection.execute(
                "SELECT DISTINCT b.host FROM evaluations_workerheartbeat b JOIN evaluations_shard s"
                " ON s.worker = b.worker WHERE s.finished_at IS NULL AND s.lease_until > now()"
            )
            return {host for (host,) in found}


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(_arguments: Sequence[str] = ()) -> None:
    """Cut off, mend, and count; AssertionError tells what was not kept."""
    assert not missing_services(), missing_services()
    assert not missing_network(), missing_network()
    with TwoMachines() as site:
        both = {site.network.first, site.network.second}
        (client,) = site.open_accounts({"machines": CONCURRENCY})
        hold = site.holder()
        asking = client.start_asking(ROWS)
        wait_until(lambda: site.hosts_at_work() == both, 30, site.logs)
        tell("both machines work")
        hold()
        site.network.set_wire("down")
        before = client.done(asking)
        time.sleep(CUT_SECONDS)
        assert site.hosts_at_work() <= {site.network.first}, site.hosts_at_work()
        assert client.is_over(asking) or client.done(asking) > before, site.logs()
        assert len(site.worker.processes()) > 1, site.logs()
        site.network.set_wire("up")
        tell("the second machine is back")
        took = client.wait_over(asking, 90)
        counts = site.models.counts()
        (found,) = json.loads(site.inside("tell()"))
        assert found["rows"] == list(range(ROWS)), found["states"]
        assert found["states"] == found["counts"] == {"passed": ROWS}, found["states"]
        assert found["scores_per_result"] == [2]
        assert found["tally"] == found["passed_scores"]
        repeats = sum(counts["prompts"].values()) - ROWS
        # What the second machine could not store before it knew that it was alone.
        bound = CONCURRENCY + (LEASE_SECONDS + 1) * CONCURRENCY / DELAY
        assert repeats <= bound, f"{repeats} calls too many, {bound} may be"
        assert counts["max_in_flight"] <= CONCURRENCY, counts["max_in_flight"]
        tell(f"over {took:.1f} s later, {repeats} of at most {bound:.0f} repeats")
        # And it works again.
        client.start_asking(ROWS)
        took = wait_until(lambda: site.hosts_at_work() == both, 60, site.logs)
        tell(f"both machines work again {took:.1f} s later")


if __name__ == "__main__":
    main()
