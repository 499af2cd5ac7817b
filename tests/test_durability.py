"""Nothing lost, nothing doubled: SIGKILL for workers and for everything, in the middle of a run."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.model_server import ModelServer, running
from tests.patience import wait_until
from tests.served import Served

ROWS = 600
DELAY = 0.4
CONCURRENCY = 32
RECOVERY_SECONDS = 90

pytestmark = pytest.mark.slow
# Shortened, so that a lease runs out while the test watches.
HASTE = {
    "ENGINE_LEASE_SECONDS": "4",
    "ENGINE_RENEW_SECONDS": "1",
    "ENGINE_SWEEP_SECONDS": "1",
    "ENGINE_STUCK_SECONDS": "4",
    "EVALPLATFORM_GRACE_SECONDS": "3",
}
# Read by a process of the served instance, since its database is not the tests' own.
RECOUNT = """
import json
from django.db.models import Count
from apps.evaluations.models import Result, Run, Score
run = Run.objects.get()
results = Result.objects.filter(run=run)
scores = Score.objects.filter(result__run=run)
states = dict(results.order_by().values_list("state").annotate(Count("pk")))
print(json.dumps({
    "state": run.state, "rows": sorted(results.values_list("row_index", flat=True)),
    "states": states, "scores": scores.count(), "passed": run.passed_count,
    "failed": run.failed_count, "errored": run.errored_count,
    "shards": sum(run.shards.values_list("done_count", flat=True)),
}))
"""


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with running(delay=DELAY) as models:
        yield models


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, HASTE) as served:
        yield served


class Client:
    """One key's requests, patient while the server restarts."""

    def __init__(self, served: Served, models: ModelServer) -> None:
        self.served = served
        self.key = served.manage("create_api_key", "--account", "durable").strip()
        served.manage(
            *("add_endpoint", "--account", "durable", "--base-url", models.base_url),
            *("--concurrency", str(CONCURRENCY), "--allow-private", "m"),
        )

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.served.base_url}/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def start_run(self) -> str:
        criterion = {
            "type": "string_check",
            "name": "same",
            "input": "{{ sample.output_text }}",
            "reference": "{{ item.text }}",
            "operation": "eq",
        }
        config = {
            "type": "custom",
            "item_schema": {"type": "object"},
            "include_sample_schema": True,
        }
        made = self.call(
            "POST", "/evals", {"data_source_config": config, "testing_criteria": [criterion]}
        )
        message = {"role": "user", "content": "{{ item.text }}"}
        rows = [{"item": {"text": f"row {number}"}} for number in range(ROWS)]
        source = {
            "type": "completions",
            "model": "m",
            "source": {"type": "file_content", "content": rows},
            "input_messages": {"type": "template", "template": [message]},
        }
        run = self.call("POST", f"/evals/{made['id']}/runs", {"data_source": source})
        return f"/evals/{made['id']}/runs/{run['id']}"

    def done(self, run: str) -> int:
        with suppress(OSError):
            return self.call("GET", run)["result_counts"]["total"]
        return 0

    def status(self, run: str) -> str:
        with suppress(OSError):
            return self.call("GET", run)["status"]
        return ""


def busy_worker(served: Served, models: ModelServer) -> psutil.Process:
    """The process of the cluster that holds connections to the model server."""
    port = int(models.base_url.split(":")[2].split("/")[0])
    for process in served.processes():
        with suppress(psutil.Error):
            remote = [c.raddr for c in process.net_connections("tcp") if c.status == "ESTABLISHED"]
            if any(address and address.port == port for address in remote):
                return process
    raise AssertionError("no process asks the model server")


def check_whole(served: Served, models: ModelServer, deaths: int) -> None:
    """Every item once, one score each, counts equal to recounting, and few calls repeated."""
    found = json.loads(served.manage("shell", "--no-imports", "-c", RECOUNT))
    assert found["state"] == "completed"
    assert found["rows"] == list(range(ROWS))
    assert found["scores"] == ROWS
    assert found["states"] == {"passed": ROWS}
    assert (found["passed"], found["failed"], found["errored"]) == (ROWS, 0, 0)
    assert found["shards"] == ROWS
    asked = models.counts()["prompts"]
    repeats = sum(count - 1 for count in asked.values())
    # In flight at the kill, or answered within the second before it and not yet stored.
    bound = deaths * (CONCURRENCY + CONCURRENCY / DELAY)
    assert repeats <= bound, (repeats, bound)


def test_a_killed_worker_costs_no_item_and_doubles_none(
    served: Served, models: ModelServer
) -> None:
    client = Client(served, models)
    run = client.start_run()
    wait_until(lambda: client.done(run) > ROWS / 5, 30, "a fifth of the run")
    os.kill(busy_worker(served, models).pid, signal.SIGKILL)
    wait_until(lambda: client.status(run) == "completed", RECOVERY_SECONDS, lambda: served.log)
    check_whole(served, models, deaths=1)


def test_everything_killed_goes_on_after_a_restart(served: Served, models: ModelServer) -> None:
    client = Client(served, models)
    run = client.start_run()
    wait_until(lambda: client.done(run) > ROWS / 5, 30, "a fifth of the run")
    served.kill()
    time.sleep(1)
    assert models.counts()["in_flight"] == 0
    served.start()
    wait_until(lambda: client.status(run) == "completed", RECOVERY_SECONDS, lambda: served.log)
    check_whole(served, models, deaths=1)
