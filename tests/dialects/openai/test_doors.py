"""Azure's paths and header lead to the same objects as the vendor's own."""

import json
from typing import Any

import pytest
from django.test import Client

from evalplatform.dialects.openai.evals import source_echo
from tests.dialects.openai.caller import EVAL, Caller, run_body
from tests.factories import make_endpoint
from tests.model_server import ModelServer

pytestmark = pytest.mark.django_db
QUERY = "?api-version=2025-04-01-preview"


@pytest.fixture
def caller() -> Caller:
    return Caller()


@pytest.fixture
def azure(caller: Caller) -> Client:
    return Client(headers={"api-key": caller.secret})


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(path, json.dumps(body), content_type="application/json")


@pytest.mark.parametrize("door", ["/openai/v1", "/openai", "/v1"])
def test_what_is_made_by_one_door_is_seen_by_all(azure: Client, caller: Caller, door: str):
    made = post(azure, f"{door}/evals{QUERY}", EVAL)
    assert made.status_code == 201, made.content
    eval_id = made.json()["id"]
    assert caller.get(f"/evals/{eval_id}")[1]["id"] == eval_id
    assert azure.get(f"/openai/evals/{eval_id}/runs{QUERY}").json()["data"] == []
    assert azure.get(f"/openai/v1/evals/{eval_id}").json()["name"] == EVAL["name"]


@pytest.mark.parametrize("path", ["/openai/evals", "/openai/v1/models", "/v1/files"])
def test_a_wrong_key_in_azures_header_is_refused(path: str):
    for key in ("wrong", "", "Bearer wrong"):
        answer = Client(headers={"api-key": key}).get(path)
        assert answer.status_code == 401, key
        assert answer.json()["error"]["code"] == "invalid_api_key"


def test_another_accounts_objects_stay_hidden_behind_every_door(azure: Client):
    eval_id = Caller().new_eval()["id"]
    for path in (f"/openai/evals/{eval_id}", f"/openai/v1/evals/{eval_id}/runs"):
        assert azure.get(path).status_code == 404


def test_the_deployment_in_the_path_is_the_model(
    azure: Client, caller: Caller, server: ModelServer
):
    models = ["echo", "lab/echo-2:latest"]
    make_endpoint(caller.actor, server.base_url, models=models, embedding_models=["vectors"])
    said = {"messages": [{"role": "user", "content": "one two"}], "model": "another"}
    for model in (*models, "builtin/echo"):
        chat = post(azure, f"/openai/deployments/{model}/chat/completions{QUERY}", said)
        assert chat.json()["choices"][0]["message"]["content"] == "one two", (model, chat.content)
    texts = {"input": ["[1, 2]"]}
    vectors = post(azure, f"/openai/deployments/vectors/embeddings{QUERY}", texts)
    assert vectors.json()["data"][0]["embedding"] == [1, 2], vectors.content
    nobody = post(azure, f"/openai/deployments/nobody/chat/completions{QUERY}", said)
    assert (nobody.status_code, nobody.json()["error"]["param"]) == (404, "model")


@pytest.mark.parametrize("path", ["/openai/nothing", "/openai/deployments/m/nothing", "/openai"])
def test_an_unknown_path_behind_a_door_is_refused_in_the_envelope(azure: Client, path: str):
    answer = azure.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


LABELS = {"properties": {"stage": "nightly", "tries": 2}, "evaluation_level": "turn"}


@pytest.mark.parametrize(
    "labels", [LABELS, {"properties": {}}, {"evaluation_level": "conversation"}, {}]
)
def test_a_runs_labels_are_given_back_wherever_it_is_shown(
    azure: Client, caller: Caller, labels: dict[str, Any]
):
    eval_id = caller.new_eval()["id"]
    made = post(azure, f"/openai/evals/{eval_id}/runs{QUERY}", run_body(**labels)).json()
    assert {name: made[name] for name in LABELS if name in made} == labels
    where = f"/evals/{eval_id}/runs"
    source_echo._ECHOES.forget()  # as after a restart
    assert caller.get(f"{where}/{made['id']}")[1] == made
    assert caller.get(where)[1]["data"] == [made]


@pytest.mark.parametrize(
    "labels",
    [{"properties": "nightly"}, {"properties": [1]}, {"evaluation_level": 3}],
)
def test_labels_of_another_type_are_refused(caller: Caller, labels: dict[str, Any]):
    eval_id = caller.new_eval()["id"]
    status, answer = caller.post(f"/evals/{eval_id}/runs", run_body(**labels))
    assert (status, answer["error"]["code"]) == (400, "invalid_type")
    assert answer["error"]["param"] == next(iter(labels))


def rows_of_azure(kind: str) -> dict[str, Any]:
    return {"data_source": {"type": kind, "source": {"type": "azure_ai_dataset", "id": "d"}}}


@pytest.mark.parametrize(
    ("path", "body", "param", "instead"),
    [
        (
            "/evals",
            {**EVAL, "data_source_config": {"type": "azure_ai_source", "scenario": "red_team"}},
            "data_source_config.type",
            "custom",
        ),
        (
            "/evals",
            {**EVAL, "testing_criteria": [{"type": "azure_ai_evaluator", "name": "coherence"}]},
            "testing_criteria[0].type",
            "score_model",
        ),
        ("/runs", {"data_source": {"type": "azure_ai_responses"}}, "data_source.type", "jsonl"),
        ("/runs", rows_of_azure("jsonl"), "data_source.source.type", "file_id"),
        ("/runs", rows_of_azure("completions"), "data_source.source.type", "file_id"),
        (
            "/fine_tuning/alpha/graders/validate",
            {"grader": {"type": "azure_ai_evaluator", "name": "coherence"}},
            "grader.type",
            "python",
        ),
    ],
)
def test_azures_own_kinds_are_refused_with_what_to_use_instead(
    caller: Caller, path: str, body: dict[str, Any], param: str, instead: str
):
    if path == "/runs":
        path = f"/evals/{caller.new_eval()['id']}/runs"
    status, answer = caller.post(path, body)
    fault = answer["error"]
    assert (status, fault["param"], fault["code"]) == (400, param, "invalid_value")
    assert '"azure_ai_' in fault["message"]
    assert instead in fault["message"]
