"""Give every test a data folder of its own, fast passwords, and no network but loopback."""

import gc
import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import django
import hypothesis
import pytest
from django.conf import settings
from django.db import connection
from django.test import TransactionTestCase, override_settings

from tests.emptying import empty_tables
from tests.model_server import ModelServer, running
from tests.patience import slowness
from tests.served import Served, Template
from tests.shared_server import ASKING, PASSWORD, Platform

# Before the settings load, which is why pyproject.toml does not name them: tests stay out of ./var.
os.environ["DJANGO_SETTINGS_MODULE"] = "evalplatform.settings"
os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="evalplatform-tests-")
os.environ.pop("PRODUCTION", None)
# Processes that share the tests (pytest -n) have databases of their own; so they have queues.
if "REDIS_URL" in os.environ and (sharer := os.environ.get("PYTEST_XDIST_WORKER", "")):
    server, _, number = os.environ["REDIS_URL"].rpartition("/")
    os.environ["REDIS_URL"] = f"{server}/{int(number) + int(sharer.removeprefix('gw'))}"
# Made by the first of the processes that share the tests, and taken away by it.
IS_FIRST = Template.FOLDER not in os.environ
if IS_FIRST:
    os.environ[Template.FOLDER] = tempfile.mkdtemp(prefix="evalplatform-template-")
slowness()
# A worker that finds nothing to do ends soon.
os.environ.setdefault("ENGINE_LINGER_SECONDS", "0.3")


# Few examples find most of what is wrong, many what nobody thought of; none fails by the machine's
# speed.
for name, examples in (("few", 30), ("thorough", 200)):
    hypothesis.settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile(os.environ.get("EXAMPLES", "few"))

# Here and not in a hook: conftest files below import models when they are loaded.
django.setup()
assert str(settings.DATA_DIR) == str(Path(os.environ["DATA_DIR"]).resolve()), (
    "the settings loaded too early: leave DJANGO_SETTINGS_MODULE unset"
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    # Else those processes would load their settings before this file gives them a folder.
    del os.environ["DJANGO_SETTINGS_MODULE"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep together what stands in one file, and what asks the shared server."""
    # Only there is it installed for sure.
    from xdist.scheduler import LoadFileScheduling  # noqa: PLC0415

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "asking" if ASKING.match(nodeid) else super()._split_scope(nodeid)

    return Scheduling(config, log)


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["DATA_DIR"], ignore_errors=True)
    if IS_FIRST:
        Template(Path(os.environ[Template.FOLDER])).remove()


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


@pytest.fixture(scope="session")
def django_db_keepdb(django_db_modify_db_settings: None) -> bool:
    """Copy what another process has migrated, where several share the tests; else migrate."""
    is_shared = "PYTEST_XDIST_WORKER" in os.environ and connection.vendor == "sqlite"
    if is_shared:
        template = Template(Path(os.environ[Template.FOLDER])).file()
        shutil.copyfile(template, settings.DATABASES["default"]["TEST"]["NAME"])
    return is_shared


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


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A server, a model server and a key that tests share which leave the server as it is."""
    environment = {"DJANGO_SUPERUSER_PASSWORD": PASSWORD, "AZURE_KEY": "azure-secret"}
    with running() as models, Served(tmp_path_factory.mktemp("platform"), environment) as served:
        unopened = Platform(served, models, "")
        yield replace(unopened, key=unopened.open_account("clients", "echo-model", "slow:30"))


@pytest.fixture(autouse=True, scope="session")
def _quick() -> Iterator[None]:
    with (
        override_settings(
            PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
            # Else every test client has all static files looked up first.
            WHITENOISE_AUTOREFRESH=True,
        ),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda self: empty_tables())
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--on-another-database",
        action="store_true",
        help="only what a database may answer otherwise, after all tests went well on SQLite",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--on-another-database"):
        config.hook.pytest_deselected(items=[one for one in items if not stands_on_database(one)])
        items[:] = [one for one in items if stands_on_database(one)]


def stands_on_database(item: pytest.Item) -> bool:
    """Tell whether a test asks a database, its own or a server's, and is not marked `once`."""
    if item.get_closest_marker("once"):
        return False
    fixtures = set(getattr(item, "fixturenames", ()))
    names = set(vars(item.module)) if isinstance(item, pytest.Function) else set()
    return bool(
        item.get_closest_marker("django_db")
        or fixtures & {"db", "transactional_db", "platform"}
        or names & {"Served", "Managed", "run_trial"}
    )


def pytest_collection_finish() -> None:
    # What was loaded by now stays: it need not be looked through again and again.
    gc.freeze()
