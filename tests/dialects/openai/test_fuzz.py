"""No request of whatever form is answered in a way that the schema lacks."""

import os
from collections import Counter
from typing import Any

import pytest
import schemathesis
from django.urls import include, path
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from evalplatform.wsgi import application
from tests.dialects.openai.caller import Caller

schema = schemathesis.pytest.from_fixture("openai_schema")
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
METHODS = {"GET", "POST", "DELETE"}
# Of the bodies that have over a thousand variants each, one of so many; all when it is thorough.
FIRST, THEN_EVERY = 50, 1 if os.environ.get("EXAMPLES") == "thorough" else 12
tried: Counter[tuple[str, str]] = Counter()


@pytest.fixture
def openai_schema(request: pytest.FixtureRequest) -> Any:
    """Make the schema when it is tried: every process that shares the tests collects this file."""
    # schemathesis looks for the name of the test where pytest keeps it no longer.
    request.node._nodeid = request.node.nodeid
    routes = [path("v1/", include("evalplatform.dialects.openai.urls"))]
    made = SchemaGenerator(patterns=routes).get_schema(request=None, public=True)
    schema = schemathesis.openapi.from_dict(made)
    schema.app = application
    # What a method that is not there answers has a test of its own.
    schema.config.phases.coverage.unexpected_methods = set()
    return schema


@pytest.fixture
def caller() -> tuple[Caller, dict[str, str]]:
    """Make a caller, and ids that are there, for paths that would else be unknown."""
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    ids = {"eval_id": eval_id, "run_id": caller.new_run(eval_id)["id"]}
    return caller, {**ids, "completion_id": caller.new_completion()["id"]}


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@schema.parametrize()
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_one_that_the_schema_tells_of(case: Any, caller: Any):
    speaker, ids = caller
    assert case.method in METHODS
    tried[case.method, case.path] += 1
    number = tried[case.method, case.path]
    if number > FIRST and number % THEN_EVERY:
        return
    if case.method != "DELETE":
        case.path_parameters |= {name: ids[name] for name in ids if name in case.path_parameters}
    headers = {"authorization": f"Bearer {speaker.secret}"}
    case.validate_response(case.call(headers=headers), checks=CHECKS)
