"""The page on adding a dialect: its code is installed, called and described by its schema."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from evalplatform.dialects.kit.dialect import Dialect
from tests.served import ROOT

PAGE = (ROOT / "docs" / "adding-a-dialect.md").read_text(encoding="utf-8")
MODULES = re.findall(
    r"^Save as `(\w+\.py)`.*?^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE
)
[OWNED] = re.findall(r"^  ```text\n(.*?)^  ```$", PAGE, re.DOTALL | re.MULTILINE)
SETTINGS = """
from evalplatform.settings import *

DIALECTS = [*DIALECTS, "evalplatform.dialects.acme"]
INSTALLED_APPS = [*INSTALLED_APPS, "evalplatform.dialects.acme"]
"""
# Runs in another process, whose settings list the dialect.
CALLS = """
import json, logging, sys

import evalplatform.dialects

evalplatform.dialects.__path__.append(sys.argv[1])

import django

django.setup()
logging.disable()

from django.core.management import call_command
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS

from tests.factories import make_actor, make_key

call_command("migrate", verbosity=0)
client = Client(headers={"acme-key": make_key(make_actor())[1]}, raise_request_exception=False)


def call(method, path, body=None, client=client):
    sent = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
    answer = getattr(client, method)(path, **sent)
    return [answer.status_code, answer.json()]


made = call("post", "/acme/datasets", {"title": "tickets", "about": "of May"})
dataset_id = made[1]["id"]
other = Client(headers={"acme-key": make_key(make_actor())[1]})
answers = {
    "made": made,
    "read": call("get", f"/acme/datasets/{dataset_id}"),
    "listed": call("get", "/acme/datasets"),
    "of_another": call("get", f"/acme/datasets/{dataset_id}", client=other),
    "wrong": call("post", "/acme/datasets", {"about": 1}),
    "refused_by_the_core": call("post", "/acme/datasets", {"title": "  "}),
    "no_key": call("get", "/acme/datasets", client=Client()),
    "no_method": call("delete", "/acme/datasets"),
    "unknown": call("get", "/acme/nothing"),
}
GENERATOR_STATS.reset()
schema = client.get("/schema/acme", headers={"accept": "application/json"})
answers["schema"] = json.loads(schema.content)
answers["warnings"] = bool(GENERATOR_STATS)
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The answers of the page's dialect, and its schema."""
    folder = tmp_path_factory.mktemp("dialects")
    package = folder / "acme"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, code in MODULES:
        (package / name).write_text(code, encoding="utf-8")
    (folder / "acme_settings.py").write_text(SETTINGS, encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "DJANGO_SETTINGS_MODULE": "acme_settings",
        # A database of its own, which is gone with the folder.
        "DATA_DIR": str(folder / "data"),
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "ALLOWED_HOSTS": "testserver",
    }
    done = subprocess.run(
        [sys.executable, "-c", CALLS, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_module_of_the_page_is_there():
    names = [name for name, _ in MODULES]
    assert names == ["envelope.py", "viewset.py", "datasets.py", "urls.py", "dialect.py"]


def test_what_is_created_is_read_and_listed(answers):
    status, made = answers["made"]
    assert (status, made["title"], made["about"]) == (201, "tickets", "of May")
    assert re.fullmatch("ds-[0-9a-f]{32}", made["id"])
    assert answers["read"] == [200, made]
    assert answers["listed"] == [200, {"datasets": [made]}]


def test_all_problems_are_told_in_the_vendors_envelope(answers):
    status, body = answers["wrong"]
    assert status == 422
    assert [one["field"] for one in body["errors"]] == ["title", "about"]
    status, body = answers["refused_by_the_core"]
    assert status == 422
    assert [one["field"] for one in body["errors"]] == ["title"]


@pytest.mark.parametrize(
    ("call", "status"),
    [("of_another", 404), ("no_key", 401), ("no_method", 405), ("unknown", 404)],
)
def test_each_kind_of_problem_has_its_status_and_the_envelope(answers, call, status):
    found, body = answers[call]
    assert found == status
    assert body.keys() == {"errors"}


def test_its_schema_tells_every_route_and_refusal_without_a_warning(answers):
    assert not answers["warnings"]
    paths = answers["schema"]["paths"]
    assert paths.keys() == {"/acme/datasets", "/acme/datasets/{dataset_id}"}
    for operations in paths.values():
        for operation in operations.values():
            assert {"401", "403", "500"} <= operation["responses"].keys()


def test_the_page_explains_every_field_of_a_dialect():
    table = PAGE[PAGE.index("| field of `Dialect` |") :].split("\n\n")[0]
    named = {
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert named >= set(Dialect.__dataclass_fields__)


def test_the_ids_that_it_gives_the_law_on_tenancy_are_its_own(answers):
    namespace: dict[str, Any] = {}
    exec("if True:\n" + OWNED, namespace)
    dataset_id = answers["made"][1]["id"]

    class Row:
        class pk:
            hex = dataset_id.removeprefix("ds-")

    assert namespace["parameters"]({"dataset": Row}) == {"dataset_id": dataset_id}
