"""The two routes that OpenAI's and Spice's dialects share: docs/contracts/spice.md, section 3."""

from typing import Any

import pytest
from django.test import Client

from tests.dialects.installed import needs
from tests.factories import make_actor, make_evaluation, make_key

pytestmark = needs("openai", "spice")

ROLES = {"spice": "text/plain; charset=utf-8", "openai": "application/json"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "path", "headers", "whose"),
    [
        ("get", "evals", {}, "openai"),
        ("get", "evals/", {}, "openai"),
        ("get", "evals", {"x-api-key": "no"}, "spice"),
        ("get", "evals/", {"x-api-key": "no"}, "spice"),
        ("get", "evals", {"x-api-key": ""}, "spice"),
        ("get", "evals", {"authorization": "Bearer no"}, "openai"),
        ("get", "evals", {"authorization": "Bearer no", "x-api-key": "no"}, "openai"),
        ("post", "evals", {}, "openai"),
        ("post", "evals", {"x-api-key": "no"}, "spice"),
        ("post", "evals/name", {}, "spice"),
        ("post", "evals/name", {"authorization": "Bearer no"}, "spice"),
        ("post", "evals/name", {"x-api-key": "no"}, "spice"),
        ("post", "evals/eval_1", {}, "openai"),
        ("post", "evals/eval_1", {"authorization": "Bearer no"}, "openai"),
        ("post", "evals/eval_1", {"x-api-key": "no"}, "spice"),
        ("post", "evals/eval_1", {"authorization": "Bearer no", "x-api-key": "no"}, "openai"),
        ("get", "evals/name", {}, "openai"),
        ("get", "evals/name", {"x-api-key": "no"}, "spice"),
        ("delete", "evals/eval_1", {"x-api-key": "no"}, "spice"),
        ("delete", "evals/eval_1", {"authorization": "Bearer no"}, "openai"),
        ("put", "evals/name", {}, "openai"),
        ("post", "evals/name/runs", {"x-api-key": "no"}, "openai"),
    ],
)
def test_the_key_and_the_name_tell_whose_a_request_is(
    method: str, path: str, headers: dict[str, str], whose: str
):
    answer = getattr(Client(), method)(f"/v1/{path}", headers=headers)
    assert answer.status_code == 401
    assert answer["Content-Type"] == ROLES[whose]


@pytest.mark.django_db
def test_the_slash_at_the_end_of_the_list_makes_no_difference():
    actor = make_actor()
    make_evaluation(actor)
    headers = {"authorization": f"Bearer {make_key(actor)[1]}"}
    plain, slashed = (Client().get(path, headers=headers) for path in ("/v1/evals", "/v1/evals/"))
    assert plain.json() == slashed.json()
    assert len(plain.json()["data"]) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("headers", "kind"),
    [({"x-api-key": "x"}, "text/plain; charset=utf-8"), ({}, "application/json")],
)
def test_a_bug_is_told_in_the_envelope_of_whoever_asked(
    headers: dict[str, str], kind: str, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("evalplatform.dialects.spice.viewset.actor_for_key", fail)
    monkeypatch.setattr("evalplatform.dialects.openai.keys.actor_for_key", fail)
    client = Client(raise_request_exception=False)
    answer = client.get("/v1/evals", headers=headers or {"authorization": "Bearer x"})
    assert (answer.status_code, answer["Content-Type"]) == (500, kind)
    assert "RuntimeError" not in answer.content.decode()
