"""Workers and runs at one model server: limits hold, and the small are not behind the big."""

import io
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import orjson
import pytest

from tests.dialects.installed import needs
from tests.faults.system import Client, Site
from tests.model_server import ModelServer, running
from tests.patience import wait_until
from tests.served import Served

ROWS = 10_000
ANSWER_SECONDS = 2.0
SMALL_RUN_SECONDS = 15
CONCURRENCY = {"big": 24, "other": 8}

pytestmark = [pytest.mark.slow, needs("openai")]


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with running(delay=ANSWER_SECONDS) as models:
        yield models


@pytest.fixture
def clients(tmp_path: Path, models: ModelServer) -> Iterator[list[Client]]:
    """Of an account with a big run and of another, on a system with three workers."""
    with Served(tmp_path, {"WORKERS": "3"}) as served:
        yield Site(served, models).open_accounts(CONCURRENCY)


def start_big_run(client: Client) -> str:
    lines = (orjson.dumps({"item": {"text": f"row {number}"}}) for number in range(ROWS))
    vendor = openai.OpenAI(base_url=f"{client.site.served.base_url}/v1", api_key=client.key)
    file = vendor.files.create(file=io.BytesIO(b"\n".join(lines)), purpose="evals")
    vendor.close()
    return client.start_asking_of({"type": "file_id", "id": file.id})


def test_a_small_run_is_done_soon_while_a_vast_one_goes_on(
    clients: list[Client], models: ModelServer
) -> None:
    """Another account's, and the same account's, which has to share the endpoint."""
    client, other = clients
    vast = start_big_run(client)
    wait_until(lambda: models.counts()["in_flight"] == CONCURRENCY["big"], 60, client.site.logs)
    theirs = other.start_asking(10)
    other.wait_over(theirs, SMALL_RUN_SECONDS)
    ours = client.start_asking(10)
    client.wait_over(ours, SMALL_RUN_SECONDS)
    assert other.read(theirs)["result_counts"]["passed"] == 10
    assert client.read(ours)["result_counts"]["passed"] == 10
    assert client.read(vast)["status"] == "in_progress"
    # What it takes to keep all places busy, never a call more.
    wait_until(lambda: models.counts()["in_flight"] == CONCURRENCY["big"], 30, client.site.logs)
    assert models.counts()["max_in_flight"] <= sum(CONCURRENCY.values())
    client.call("POST", vast, {})
    time.sleep(ANSWER_SECONDS)
    total = models.counts()["total"]
    time.sleep(ANSWER_SECONDS)
    assert models.counts()["total"] == total
    assert client.read(vast)["status"] == "canceled"
