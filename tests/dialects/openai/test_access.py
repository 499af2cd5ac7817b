"""Keys and sessions open the API, and whatever is answered has the vendor's form."""

import json
from typing import Any
from unittest.mock import patch

import pytest
from django.test import Client, override_settings
from django.urls import resolve

from apps.accounts.models import ApiKey
from apps.evaluations.models import Evaluation
from evalplatform.dialects.openai.evals.evals import EvalViewSet
from evalplatform.dialects.openai.urls import urlpatterns
from evalplatform.sessions import SELECTED_ACCOUNT
from tests.dialects.openai.caller import EVAL, Caller
from tests.factories import make_account, make_actor

pytestmark = pytest.mark.django_db
HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
IDS = {"eval_id": "eval_1", "run_id": "evalrun_1", "item_id": "outputitem_1", "file_id": "file-1"}


def routes() -> list[str]:
    filled = []
    for pattern in urlpatterns:
        route = str(pattern.pattern)
        for name, value in {**IDS, "model": "m"}.items():
            route = route.replace(f"<str:{name}>", value).replace(f"<path:{name}>", value)
        filled.append(f"/v1/{route}")
    return filled


def assert_envelope(response: Any, status: int, code: str | None) -> None:
    assert response.status_code == status, response.content
    assert response["Content-Type"].startswith("application/json")
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (bool(error["message"]), error["code"]) == (True, code)
    assert response["x-request-id"].startswith("req_")
    assert response["openai-version"] == "2020-10-01"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic dTpw",
        "ep-1234",
        "Bearer \xff",
        "Bearer a b",
    ],
)
def test_without_a_key_that_is_in_use_every_route_answers_401(header: str | None):
    client = Client(headers={} if header is None else {"authorization": header})
    for route in routes():
        for method in ("get", "post", "delete"):
            response = getattr(client, method)(route)
            assert_envelope(response, 401, "invalid_api_key")
            assert response["WWW-Authenticate"] == "Bearer"


def test_a_revoked_key_opens_nothing():
    caller = Caller()
    assert caller.get("/evals")[0] == 200
    ApiKey.objects.update(revoked_at="2026-01-01T00:00Z")
    assert caller.get("/evals")[0] == 401


def test_the_word_bearer_has_no_case():
    caller = Caller()
    client = Client(headers={"authorization": f"bearer  {caller.secret} "})
    assert client.get("/v1/evals").status_code == 200


def test_a_key_that_may_only_read_changes_nothing():
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    run_id = caller.new_run(eval_id)["id"]
    reader = Caller(caller.actor, role="viewer")
    assert reader.get(f"/evals/{eval_id}")[0] == 200
    answers = [
        reader.post("/evals", EVAL),
        reader.post(f"/evals/{eval_id}", {"name": "x"}),
        reader.post(f"/evals/{eval_id}/runs/{run_id}/cancel"),
        reader.delete(f"/evals/{eval_id}"),
    ]
    for status, answer in answers:
        assert (status, answer["error"]["code"]) == (403, "insufficient_permissions")
    assert Evaluation.objects.get().name == EVAL["name"]


@pytest.mark.parametrize("accept", ["application/json", "text/html", "application/binary", "x", ""])
def test_a_program_gets_json_whatever_it_accepts(accept: str):
    caller = Caller()
    response = caller.client.get("/v1/evals", headers={"accept": accept})
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    assert response["x-request-id"].startswith("req_")
    assert int(response["openai-processing-ms"]) >= 0


def test_headers_of_the_vendors_clients_are_ignored():
    headers = {"openai-organization": "o", "openai-project": "p", "openai-beta": "b=1"}
    stainless = {"x-stainless-lang": "python", "aoai-evals": "preview"}
    response = Caller().client.get("/v1/evals", headers={**headers, **stainless})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/octet-stream"]
)
def test_a_body_is_read_as_json_whatever_it_is_called(content_type: str):
    response = Caller().client.post("/v1/evals", json.dumps(EVAL), content_type=content_type)
    assert response.status_code == 201


def test_a_body_beyond_the_limit_is_refused():
    caller = Caller()
    with override_settings(MAX_BODY_BYTES=100):
        status, answer = caller.post("/evals", EVAL)
    assert (status, answer["error"]["type"]) == (413, "invalid_request_error")
    assert Evaluation.objects.count() == 0


@pytest.mark.parametrize("method", ["put", "patch", "options", "delete"])
def test_another_method_is_refused(method: str):
    response = getattr(Caller().client, method)("/v1/evals")
    assert_envelope(response, 405, "method_not_allowed")
    assert response["Allow"] == "GET, POST, HEAD"


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/", "/v1/none", "/v1/evals/eval_1/", "/v1/evals/a/b/c"]
)
def test_an_unknown_path_is_answered_in_the_envelope_with_and_without_a_key(path: str):
    assert_envelope(Client().get(path, headers=HTML), 404, "not_found")
    assert_envelope(Caller().client.post(path), 404, "not_found")


def test_a_path_of_nobody_is_left_to_django():
    assert Client().get("/v10/none")["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("debug", [True, False])
def test_a_bug_is_answered_in_the_envelope(debug: bool):
    caller = Caller()
    caller.client.raise_request_exception = False
    with (
        override_settings(DEBUG=debug),
        patch.object(EvalViewSet, "list", side_effect=ZeroDivisionError("secret")),
    ):
        response = caller.client.get("/v1/evals", headers=HTML)
    assert_envelope(response, 500, "internal_error")
    assert b"secret" not in response.content


def test_a_host_that_is_not_ours_is_refused_in_the_envelope():
    response = Caller().client.get("/v1/evals", headers={"host": "evil.example"})
    assert_envelope(response, 400, None)


def signed_in(actor: Any, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(actor.user)
    return client


def test_a_signed_in_browser_gets_pages_of_what_its_account_has():
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    run_id = caller.new_run(eval_id)["id"]
    browser = signed_in(caller.actor)
    where = f"/v1/evals/{eval_id}"
    for path in (
        "/v1/evals",
        where,
        f"{where}/runs",
        f"{where}/runs/{run_id}",
        f"{where}/runs/{run_id}/output_items",
        "/v1/files",
        "/v1/models",
        "/v1/models/builtin/echo",
    ):
        page = browser.get(path, headers=HTML)
        assert (page.status_code, page["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert eval_id in browser.get(where, headers=HTML).content.decode()
    refused = browser.get("/v1/evals/eval_1", headers=HTML)
    assert (refused.status_code, refused["Content-Type"]) == (404, "text/html; charset=utf-8")


def test_a_signed_in_browsers_scripts_get_json():
    browser = signed_in(make_actor())
    response = browser.get("/v1/evals", headers={"accept": "application/json"})
    assert (response.status_code, response.json()["data"]) == (200, [])


def test_a_session_changes_nothing_without_the_token_against_forgery():
    actor = make_actor()
    browser = signed_in(actor, enforce_csrf_checks=True)
    for content_type in ("application/json", "text/plain"):
        response = browser.post("/v1/evals", json.dumps(EVAL), content_type=content_type)
        assert_envelope(response, 403, "insufficient_permissions")
    assert Evaluation.objects.count() == 0
    allowed = signed_in(actor).post("/v1/evals", json.dumps(EVAL), content_type="application/json")
    assert allowed.status_code == 201


def test_a_session_sees_the_account_that_is_selected_in_it():
    caller = Caller()
    caller.new_eval()
    elsewhere = make_account("Zebra")
    make_actor(account=elsewhere, user=caller.actor.user)
    browser = signed_in(caller.actor)
    assert len(browser.get("/v1/evals").json()["data"]) == 1
    session = browser.session
    session[SELECTED_ACCOUNT] = str(elsewhere.pk)
    session.save()
    assert browser.get("/v1/evals").json()["data"] == []


def test_a_key_counts_before_a_session():
    theirs, caller = Caller(make_actor()), Caller()
    theirs.new_eval()
    browser = signed_in(theirs.actor, headers={"authorization": f"Bearer {caller.secret}"})
    assert browser.get("/v1/evals", headers=HTML).json()["data"] == []


def test_no_page_is_shown_to_a_browser_that_is_not_signed_in():
    assert_envelope(Client().get("/v1/evals", headers=HTML), 401, "invalid_api_key")


def test_every_route_is_one_of_ours():
    assert all(resolve(route).func.__module__.startswith("evalplatform.") for route in routes())
