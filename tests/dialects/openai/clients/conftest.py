"""One server with workers, one model server and one key for all tests of the vendors' clients."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.model_server import ModelServer, running
from tests.patience import wait_until
from tests.served import Served


@dataclass(frozen=True)
class Platform:
    """A served instance as a script sees it."""

    served: Served
    models: ModelServer
    key: str

    @property
    def openai_url(self) -> str:
        return f"{self.served.base_url}/v1"


def wait_over(client: openai.OpenAI, run: Any, seconds: float = 60) -> Any:
    """The run as it is when it has ended."""
    ended = []

    def over() -> bool:
        found = client.evals.runs.retrieve(run.id, eval_id=run.eval_id)
        if found.status not in ("queued", "in_progress"):
            ended.append(found)
        return bool(ended)

    wait_until(over, seconds, f"the end of {run.id}")
    return ended[0]


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder: Path = tmp_path_factory.mktemp("platform")
    with running() as models, Served(folder) as served:
        key = served.manage("create_api_key", "--account", "clients").strip()
        served.manage(
            *("add_endpoint", "--account", "clients", "--base-url", models.base_url),
            *("--allow-private", "echo-model", "slow:30"),
        )
        yield Platform(served, models, key)
