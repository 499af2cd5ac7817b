"""A worker, a model server and a caller for the tests of Spice's API."""

import threading
from collections.abc import Iterator

import pytest
from django.db import connection

from apps.evaluations.engine.worker import Worker
from tests.dialects.spice.caller import Caller
from tests.model_server import ModelServer, running


@pytest.fixture
def working() -> Iterator[None]:
    """Keep a worker running for as long as the test lasts."""
    over = threading.Event()

    def work() -> None:
        try:
            while not over.is_set():
                Worker().run()
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with running() as server:
        yield server


@pytest.fixture
def caller() -> Caller:
    return Caller()
