"""A whole system to be hurt: `manage.py up` on data of its own, and a model server that counts."""

import json
import os
import random
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self

import psutil

from tests.faults.services import Postgres, Redis
from tests.model_server import ModelServer, running
from tests.patience import patience, wait_until
from tests.served import Served, free_port

# So that leases run out, the stuck are found and calls are cut while somebody watches.
SHORTENED = {
    "ENGINE_LEASE_SECONDS": "4",
    "ENGINE_RENEW_SECONDS": "1",
    "ENGINE_SLICE_SECONDS": "15",
    "ENGINE_CALL_SECONDS": "6",
    "ENGINE_DRAIN_SECONDS": "2",
    "ENGINE_SWEEP_SECONDS": "1",
    "ENGINE_STUCK_SECONDS": "4",
    "EVALPLATFORM_GRACE_SECONDS": "4",
}
WORKERS = 3
DELAY = 0.4  # before every answer
DISK_BYTES = 96 * 1024 * 1024
FINAL = {"completed", "failed", "canceled"}


def can_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None


class Site:
    """Something that serves, and the model server that it asks.

    patience: multiplies the seconds within which something is promised.
    """

    models_url: str
    patience: float = 1

    def __init__(self, served: Served, models: ModelServer) -> None:
        self.served = served
        self.models = models
        self.models_url = models.base_url

    def inside(self, calls: str) -> str:
        """Call functions of tests.faults.inside in a process of its own; return what they print."""
        code = f"from tests.faults.inside import *\n{calls}"
        return self.served.manage("shell", "--no-imports", "-c", code)

    def open_accounts(self, concurrency: Mapping[str, int]) -> list["Client"]:
        """An account for each name, with a model of its own and so many calls to it at once."""
        calls = [
            f"open_account({name!r}, {self.models_url!r}, {f'model-{name}'!r}, {calls})"
            for name, calls in concurrency.items()
        ]
        keys = self.inside("\n".join(calls)).split()
        return [
            Client(self, name, f"model-{name}", key)
            for name, key in zip(concurrency, keys, strict=True)
        ]

    def keeps_promise(self, took: float, seconds: float, what: str) -> None:
        """Fail when what is promised within `seconds` took longer."""
        bound = seconds * self.patience
        assert took <= bound, f"{what} took {took:.1f} s, promised within {bound:.0f} s"

    def logs(self) -> str:
        return self.served.log


class System(Site):
    """Everything in one folder, gone afterwards."""

    def __init__(self, *, services: bool, real: bool, seed: int = 0, patience: float = 1) -> None:
        self.services = services
        self.patience = patience
        self.environment = {} if real else dict(SHORTENED)
        self.environment["WORKERS"] = str(WORKERS)
        self.postgres: Postgres | None = None
        self.redis: Redis | None = None
        self.disk: Path | None = None
        self._random = random.Random(seed)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="faults-"))
            folder.chmod(0o755)  # PostgreSQL is another user
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            data = folder / "data"
            data.mkdir()
            if self.services:
                self._start_services(folder, stack)
            else:
                self.environment |= {"DATABASE_URL": "", "REDIS_URL": ""}
                self._mount(data, stack)
            self.models = stack.enter_context(running(delay=DELAY))
            self.models_url = self.models.base_url
            self.served = Served(data, self.environment)
            # Not on the disk that may be full: it tells what happened.
            self.served.log_path = folder / "log"
            stack.enter_context(self.served)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def _start_services(self, folder: Path, stack: ExitStack) -> None:
        self.postgres = stack.enter_context(Postgres(folder / "postgres", free_port()))
        self.redis = stack.enter_context(Redis(folder / "redis", free_port()))
        self.environment["DATABASE_URL"] = self.postgres.url()
        self.environment["REDIS_URL"] = self.redis.url()

    def _mount(self, data: Path, stack: ExitStack) -> None:
        """A small disk, where we may make one."""
        if not can_mount():
            return
        options = f"size={DISK_BYTES},mode=755"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "faults", str(data)],
            check=False,
            stderr=subprocess.DEVNULL,
        )
        if mounted.returncode == 0:
            self.disk = data
            stack.callback(subprocess.run, ["umount", "--lazy", str(data)], check=True)

    def pick(self, processes: list[psutil.Process]) -> psutil.Process | None:
        return self._random.choice(processes) if processes else None

    def sentinel(self) -> psutil.Process | None:
        leader = self.served.leader("qcluster")
        if leader is not None:
            with suppress(psutil.NoSuchProcess):
                return next(iter(leader.children()), None)
        return None

    def cluster_processes(self) -> list[psutil.Process]:
        """The workers, and those that hand out work and collect results; not their parents."""
        sentinel = self.sentinel()
        if sentinel is not None:
            with suppress(psutil.NoSuchProcess):
                return sentinel.children()
        return []

    def busy_workers(self) -> list[psutil.Process]:
        """Find the workers that hold connections to the model server."""
        busy = []
        for process in self.cluster_processes():
            with suppress(psutil.Error):
                remote = [connection.raddr for connection in process.net_connections("tcp")]
                if any(address and address.port == self.models.port for address in remote):
                    busy.append(process)
        return busy

    def strays(self) -> list[psutil.Process]:
        """Processes of ours that do not come of the running `up`."""
        family = {self.served.pid}
        with suppress(psutil.NoSuchProcess):
            family |= {one.pid for one in psutil.Process(self.served.pid).children(recursive=True)}
        return [process for process in self.served.processes() if process.pid not in family]

    def largest_bytes(self) -> int:
        """The most resident memory that any living process has had at once."""
        most = 0
        for process in self.served.processes():
            with suppress(OSError):
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
                peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
                most = max(most, int(peak.split()[1]) * 1024)
        return most


class Client:
    """One account's requests, patient while the server restarts. model: the one that it asks."""

    def __init__(self, site: Site, account: str, model: str, key: str) -> None:
        self.site = site
        self.account = account
        self.model = model
        self.key = key

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.site.served.base_url}/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=patience(30)) as response:
            return json.load(response)

    def post(self, path: str, body: Any) -> Any:
        """Again and again while the connection breaks: what was made twice is not in the way."""
        ends_at = time.monotonic() + patience(30)
        while True:
            try:
                return self.call("POST", path, body)
            except urllib.error.HTTPError as error:
                if error.code < 500 or time.monotonic() > ends_at:
                    raise
            except (OSError, HTTPException):
                if time.monotonic() > ends_at:
                    raise
            time.sleep(0.2)

    def make_eval(self) -> str:
        criteria = [
            {
                "type": "string_check",
                "name": operation,
                "input": "{{ sample.output_text }}",
                "reference": "{{ item.text }}",
                "operation": operation,
            }
            for operation in ("eq", "ilike")
        ]
        config = {
            "type": "custom",
            "item_schema": {"type": "object"},
            "include_sample_schema": True,
        }
        body = {"data_source_config": config, "testing_criteria": criteria}
        return self.post("/evals", body)["id"]

    def start_asking(self, rows: int) -> str:
        """A run that asks the model; the path by which it is seen."""
        items = [{"item": {"text": f"{self.account} {number}"}} for number in range(rows)]
        return self.start_asking_of({"type": "file_content", "content": items})

    def start_asking_of(self, source: dict[str, Any]) -> str:
        message = {"role": "user", "content": "{{ item.text }}"}
        return self._start(
            {
                "type": "completions",
                "model": self.model,
                "source": source,
                "input_messages": {"type": "template", "template": [message]},
            }
        )

    def start_grading(self, rows: int) -> str:
        """A run whose answers are in its rows."""
        items = [
            {"item": {"text": f"row {number}"}, "sample": {"output_text": f"row {number}"}}
            for number in range(rows)
        ]
        return self._start({"type": "jsonl", "source": {"type": "file_content", "content": items}})

    def _start(self, data_source: dict[str, Any]) -> str:
        evaluation = self.make_eval()
        run = self.post(f"/evals/{evaluation}/runs", {"data_source": data_source})
        return f"/evals/{evaluation}/runs/{run['id']}"

    def read(self, run: str) -> dict[str, Any]:
        """The run as it is now, or nothing while nobody answers."""
        with suppress(OSError, HTTPException, ValueError):
            return self.call("GET", run)
        return {}

    def done(self, run: str) -> int:
        counts = self.read(run).get("result_counts") or {}
        return counts.get("passed", 0) + counts.get("failed", 0) + counts.get("errored", 0)

    def is_over(self, run: str) -> bool:
        return self.read(run).get("status") in FINAL

    def wait_over(self, run: str, seconds: float) -> float:
        return wait_until(lambda: self.is_over(run), seconds, lambda: self.story(run))

    def story(self, run: str) -> str:
        return f"{self.read(run)}\n{self.site.logs()}"
