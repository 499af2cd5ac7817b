"""Every dialect's schema builds without a warning, and says all that its operations answer."""

from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.validation import validate_schema

from evalplatform.dialects.kit.dialect import Dialect, dialects
from tests.dialects.installed import needs

JSON = "application/json"
NAMES = [dialect.name for dialect in dialects()]


def schema_of(name: str, accept: str = JSON) -> Any:
    return Client().get(f"/schema/{name}", headers={"accept": accept})


@pytest.mark.parametrize("name", NAMES)
def test_a_dialects_schema_builds_without_a_warning(name: str):
    GENERATOR_STATS.reset()
    response = schema_of(name)
    assert response.status_code == 200
    assert not GENERATOR_STATS, dict(GENERATOR_STATS._warn_cache)
    validate_schema(response.json())


def test_the_whole_schema_builds_without_a_warning(tmp_path):
    path = tmp_path / "schema.yaml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(path))
    text = path.read_text()
    assert all(f"/{dialect.prefix}" in text for dialect in dialects())


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_comes_in_the_form_that_is_accepted(name: str):
    assert schema_of(name)["Content-Type"].startswith(JSON)
    in_yaml = schema_of(name, "application/yaml")
    assert in_yaml["Content-Type"].startswith("application/yaml")
    assert yaml.safe_load(in_yaml.content) == schema_of(name).json()


@pytest.mark.parametrize("name", NAMES)
def test_every_operation_says_what_it_refuses_and_in_what_body(name: str):
    schema = schema_of(name).json()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            expected = {"401", "403", "500"}
            if "{" in path:
                expected.add("404")
            if method != "get" and "requestBody" in operation:
                expected |= {"400", "413"}
            if any(parameter["in"] == "query" for parameter in operation.get("parameters", ())):
                expected.add("400")
            assert expected <= answers.keys(), (path, method)
            for status, answer in answers.items():
                assert answer["content"], (path, method, status)


@pytest.mark.parametrize("dialect", dialects(), ids=NAMES)
def test_a_schema_tells_of_its_own_dialect_alone(dialect: Dialect):
    paths = schema_of(dialect.name).json()["paths"]
    assert all(path.startswith(f"/{dialect.prefix}") for path in paths)


@needs("openai", "spice")
@pytest.mark.parametrize("name", ["openai", "spice"])
def test_a_shared_route_tells_how_each_dialect_refuses(name: str):
    paths = schema_of(name).json()["paths"]
    shared = [path for path in paths if path.startswith("/v1/evals") and path.count("/") < 4]
    assert len(shared) == 2
    for path in shared:
        for method, operation in paths[path].items():
            refusal = operation["responses"]["401"]["content"]
            assert refusal.keys() == {JSON, "text/plain"}, (path, method)


def test_the_page_of_the_schemas_asks_no_other_host():
    page = Client().get("/docs/")
    assert page.status_code == 200
    assert all(f"/schema/{name}" in page.content.decode() for name in NAMES)
    assert "https://" not in page.content.decode()
