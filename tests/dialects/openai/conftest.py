"""The model server that the callers of these tests ask."""

from collections.abc import Iterator

import pytest

from tests.model_server import ModelServer, running


@pytest.fixture(scope="session")
def _server() -> Iterator[ModelServer]:
    with running() as server:
        yield server


@pytest.fixture
def server(_server: ModelServer) -> ModelServer:
    """With nothing counted yet."""
    _server.reset()
    return _server
