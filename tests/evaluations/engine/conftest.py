"""Short durations, a model server, and a recount of everything after every test."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.utils.module_loading import import_string

from tests.model_server import ModelServer, running


@pytest.fixture(autouse=True)
def _short_durations(settings: Any) -> None:
    settings.ENGINE_LINGER_SECONDS = 0.1
    settings.ENGINE_LOOK_SECONDS = 0.1


@pytest.fixture(autouse=True)
def _sound(request: pytest.FixtureRequest) -> Iterator[None]:
    """Counts equal recounting after every test that stands on the database."""
    marker = request.node.get_closest_marker("django_db")
    if marker is not None:
        request.getfixturevalue("transactional_db" if marker.kwargs.get("transaction") else "db")
    yield
    if marker is not None:
        # By name: this file is read before Django is set up.
        import_string("tests.evaluations.engine.soundness.check_all_runs")()


@pytest.fixture(scope="session")
def session_server() -> Iterator[ModelServer]:
    with running(delay=0.02) as server:
        yield server
