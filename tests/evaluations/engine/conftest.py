"""Short durations, a model server, and a recount of everything after every test."""

from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings

from tests.evaluations.engine.soundness import check_all_runs
from tests.model_server import ModelServer, running


@pytest.fixture(autouse=True)
def _short_durations(settings: Settings) -> None:
    settings.ENGINE_LINGER_SECONDS = 0.1
    settings.ENGINE_LOOK_SECONDS = 0.1


@pytest.fixture(autouse=True)
def _sound(request: pytest.FixtureRequest) -> Iterator[None]:
    """Counts equal recounting after every test that stands on the database."""
    has_database = request.node.get_closest_marker("django_db") is not None
    if has_database:
        request.getfixturevalue("transactional_db")
    yield
    if has_database:
        check_all_runs()


@pytest.fixture(scope="session")
def session_server() -> Iterator[ModelServer]:
    with running(delay=0.02) as server:
        yield server


@pytest.fixture
def server(session_server: ModelServer) -> ModelServer:
    session_server.reset()
    return session_server
