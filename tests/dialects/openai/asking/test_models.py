"""Models through the wire: what an account can ask, and nothing of another's."""

import pytest

from apps.inference.endpoints import add_endpoint
from tests.dialects.openai.caller import Caller
from tests.factories import make_actor, make_version

pytestmark = pytest.mark.django_db


def with_endpoint(caller: Caller, *models: str) -> None:
    add_endpoint(caller.actor, base_url="https://models.example/v1", models=models)


def test_an_accounts_models_are_listed_with_the_built_in_ones():
    caller = Caller()
    with_endpoint(caller, "org/large:70b", "small")
    make_version(caller.actor, name="tickets", label_field="label")
    make_version(caller.actor, name="unlabelled")
    status, answer = caller.get("/models")
    assert (status, answer.keys()) == (200, {"object", "data"})
    assert {model["id"] for model in answer["data"]} == {
        "org/large:70b",
        "small",
        "builtin/echo",
        "builtin/majority:tickets",
        "builtin/nearest:tickets",
    }
    for model in answer["data"]:
        assert model.keys() == {"id", "object", "created", "owned_by"}
        assert (model["object"], type(model["created"])) == ("model", int)


@pytest.mark.parametrize("name", ["org/large:70b", "org%2Flarge%3A70b", "builtin%2Fecho"])
def test_a_model_is_found_by_its_name_however_it_is_written_in_the_path(name: str):
    caller = Caller()
    with_endpoint(caller, "org/large:70b")
    status, model = caller.get(f"/models/{name}")
    assert status == 200
    assert model in caller.get("/models")[1]["data"]


def test_a_model_that_learns_is_found_where_there_is_its_dataset():
    caller = Caller()
    make_version(caller.actor, name="a b", label_field="label")
    assert caller.get("/models/builtin/majority:a%20b")[0] == 200
    assert caller.get("/models/builtin/majority:c")[0] == 404


@pytest.mark.parametrize("name", ["none", "builtin/none", "builtin/", "%00", "a/b/c", "x" * 1_000])
def test_an_unknown_model_is_not_found(name: str):
    status, answer = Caller().get(f"/models/{name}")
    assert (status, answer["error"]["code"]) == (404, "model_not_found")


def test_another_accounts_model_is_not_there():
    with_endpoint(Caller(make_actor()), "theirs")
    caller = Caller()
    assert caller.get("/models/theirs")[0] == 404
    assert [model["id"] for model in caller.get("/models")[1]["data"]] == ["builtin/echo"]


def test_models_are_not_deleted_here():
    status, answer = Caller().delete("/models/builtin/echo")
    assert status == 405
    assert "disable its endpoint" in answer["error"]["message"]
