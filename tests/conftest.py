"""What every test stands on: a data folder of its own, fast passwords, no network but loopback."""

import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import hypothesis
import pytest
from django.conf import settings
from django.test import override_settings

from tests.model_server import ModelServer, running

# Before the settings load, which is why pyproject.toml does not name them: tests stay out of ./var.
os.environ["DJANGO_SETTINGS_MODULE"] = "evalplatform.settings"
os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="evalplatform-tests-")
os.environ.pop("PRODUCTION", None)
# Processes that share the tests (pytest -n) have databases of their own; so they have queues.
if "REDIS_URL" in os.environ and (sharer := os.environ.get("PYTEST_XDIST_WORKER", "")):
    server, _, number = os.environ["REDIS_URL"].rpartition("/")
    os.environ["REDIS_URL"] = f"{server}/{int(number) + int(sharer.removeprefix('gw'))}"
# A worker that finds nothing to do ends soon.
os.environ.setdefault("ENGINE_LINGER_SECONDS", "0.3")


# No generated example fails by the machine's speed.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

# Here and not in a hook: conftest files below import models when they are loaded.
django.setup()
assert str(settings.DATA_DIR) == str(Path(os.environ["DATA_DIR"]).resolve()), (
    "the settings loaded too early: leave DJANGO_SETTINGS_MODULE unset"
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    # Else those processes would load their settings before this file gives them a folder.
    del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["DATA_DIR"], ignore_errors=True)


class NetworkUsed(BaseException):
    """A test tried to leave this machine. Not an Exception: no code under test may swallow it."""


def _is_near(family: int, address: Any) -> bool:
    if family not in {socket.AF_INET, socket.AF_INET6}:
        return True
    host = str(address[0]).partition("%")[0]
    if host in {"", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(real: Any) -> Any:
        def call(self: socket.socket, address: Any) -> Any:
            if not _is_near(self.family, address):
                raise NetworkUsed(f"{address}")
            return real(self, address)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(connect))
        patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
        yield


@pytest.fixture(scope="session")
def session_server() -> Iterator[ModelServer]:
    with running() as server:
        yield server


@pytest.fixture
def server(session_server: ModelServer) -> ModelServer:
    """A model server on loopback with nothing counted yet."""
    session_server.reset()
    return session_server


@pytest.fixture(autouse=True, scope="session")
def _fast_passwords() -> Iterator[None]:
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield
