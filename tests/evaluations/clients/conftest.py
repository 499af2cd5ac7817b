"""A model server on loopback for the clients' tests, its counts at zero for each."""

from collections.abc import Iterator

import pytest

from tests.model_server import ModelServer, running


@pytest.fixture(scope="session")
def session_server() -> Iterator[ModelServer]:
    with running() as server:
        yield server


@pytest.fixture
def server(session_server: ModelServer) -> ModelServer:
    session_server.reset()
    return session_server
