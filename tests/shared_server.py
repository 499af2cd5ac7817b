"""One server with workers and one model server for all tests that only ask them."""

import re
from dataclasses import dataclass

from tests.model_server import ModelServer
from tests.served import Served

# Where it is asked: these tests go to one of the processes that share the tests, so that there is
# one such server. A file that is missing here has another, and costs the time it takes to start.
ASKING = re.compile(
    r"tests/(benchmarks|dialects/\w+/clients)/|tests/web/test_browser|tests/test_bodies"
    r"|tests/dialects/\w+/test_served"
)


# Of people who are made by `createsuperuser --noinput`.
PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Platform:
    """A served instance as a script sees it, with the key of an account and some models."""

    served: Served
    models: ModelServer
    key: str

    @property
    def openai_url(self) -> str:
        return f"{self.served.base_url}/v1"

    def open_account(self, name: str, *models: str, concurrency: int = 0) -> str:
        """Open an account whose models the model server has; its key."""
        calls = ("--concurrency", str(concurrency)) if concurrency else ()
        key = self.served.manage("create_api_key", "--account", name).strip()
        self.served.manage(
            *("add_endpoint", "--account", name, "--base-url", self.models.base_url),
            *("--allow-private", *calls, *models),
        )
        return key
