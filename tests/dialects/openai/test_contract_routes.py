"""Section 1 of docs/contracts/openai.md: what each route answers, and to which methods.

clients/routes.json holds the rows, which the vendor's clients go through as well.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from evalplatform.dialects.openai.urls import urlpatterns
from tests.dialects.openai.caller import EVAL, ROWS, STRING_CHECK, Caller, run_body, work

pytestmark = pytest.mark.django_db(transaction=True)

TABLE = Path(__file__).parent / "clients" / "routes.json"
ROUTES: list[tuple[str, str, int, str | None]] = [
    (method, path, status, noun) for method, path, status, noun in json.loads(TABLE.read_text())
]
# contract: openai, section 17 and additions: what need not be there
MORE = {
    "/responses",
    "/responses/input_tokens",
    "/responses/{response_id}",
    "/responses/{response_id}/input_items",
    "/embeddings",
}
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
ASKED = {"model": "builtin/echo", "messages": [{"role": "user", "content": "x"}], "store": True}
BODIES: dict[str, Any] = {
    "/evals": EVAL,
    "/evals/{eval_id}": {"name": "renamed"},
    "/evals/{eval_id}/runs": run_body(),
    "/fine_tuning/alpha/graders/run": {"grader": STRING_CHECK, "model_sample": "x"},
    "/fine_tuning/alpha/graders/validate": {"grader": STRING_CHECK},
    "/chat/completions": ASKED,
    "/chat/completions/{completion_id}": {"metadata": {"a": "b"}},
}


def rows_file() -> SimpleUploadedFile:
    return SimpleUploadedFile("rows.jsonl", b'{"item": {}}\n')


def ids_of_all(caller: Caller) -> dict[str, str]:
    """Make one of every resource, the run finished and with items, and return their ids."""
    eval_id = caller.new_eval()["id"]
    run_id = caller.new_run(eval_id)["id"]
    work()
    _, items = caller.get(f"/evals/{eval_id}/runs/{run_id}/output_items")
    return {
        "eval_id": eval_id,
        "run_id": run_id,
        "item_id": items["data"][0]["id"],
        "file_id": caller.upload(rows_file())[1]["id"],
        "completion_id": caller.new_completion()["id"],
        "model": "builtin%2Fecho",
    }


def test_every_route_of_the_table_answers_as_it_says_and_nothing_is_left_after_a_delete() -> None:
    caller = Caller()
    ids = ids_of_all(caller)
    # What is deleted last is what the others stand on.
    deletes = [route for route in ROUTES if route[0] == "DELETE"]
    for method, route, status, noun in [*(r for r in ROUTES if r not in deletes), *deletes[::-1]]:
        told = (method, route)
        # What has finished can no longer be canceled.
        going = method == "POST" and "{run_id}" in route
        run_id = caller.new_run(ids["eval_id"])["id"] if going else ids["run_id"]
        path = f"/v1{route.format(**{**ids, 'run_id': run_id})}"
        body = {"purpose": "evals", "file": rows_file()} if route == "/files" else b""
        kind = {} if route == "/files" else {"content_type": "application/json"}
        if route in BODIES:
            body = json.dumps(BODIES[route]).encode()
        sent = (body,) if method == "POST" else ()
        response = getattr(caller.client, method.lower())(path, *sent, **(kind if sent else {}))
        assert response.status_code == status, told
        assert re.fullmatch(r"req_[0-9a-f]{32}", response["x-request-id"]), told
        if route.endswith("/content"):
            assert b"".join(response) == b'{"item": {}}\n'
            continue
        assert response["Content-Type"] == "application/json", told
        answer = response.json()
        assert answer.get("object") == noun, told
        if noun == "list" and route != "/models":
            assert answer.keys() == {"object", "data", "first_id", "last_id", "has_more"}, told
        if method == "DELETE":
            again = caller.client.delete(path)
            assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found"), told


def test_the_table_has_every_route_of_ours_and_no_route_takes_another_method() -> None:
    allowed: dict[str, set[str]] = {}
    for method, route, *_ in ROUTES:
        allowed.setdefault(route, set()).add(method)
    ours = {"/" + re.sub(r"<\w+:(\w+)>", r"{\1}", str(one.pattern)) for one in urlpatterns}
    assert ours - MORE == allowed.keys()
    caller = Caller()
    ids = {"eval_id": "eval_1", "run_id": "r", "item_id": "o", "file_id": "f", "model": "m"}
    for route, methods in allowed.items():
        path = f"/v1{route.format(**ids, completion_id='c')}"
        for method in METHODS - methods:
            response = getattr(caller.client, method.lower())(path)
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (405, "method_not_allowed"), path
            assert error["type"] == "invalid_request_error"
        # Never sent elsewhere, which would lose the body of a POST.
        for method in methods:
            response = getattr(caller.client, method.lower())(f"{path}/")
            assert response.status_code in (200, 400, 404), path
            assert response["Content-Type"] == "application/json"


def test_lists_have_twenty_at_a_time_the_oldest_first() -> None:
    caller = Caller()
    rows = [{**ROWS[0]} for _ in range(21)]
    evals = [caller.new_eval()["id"] for _ in range(21)]
    runs = [caller.new_run(evals[0], run_body(rows))["id"] for _ in range(21)]
    work()
    where = f"/evals/{evals[0]}/runs"
    for path, expected in (
        ("/evals", evals),
        (where, runs),
        (f"{where}/{runs[0]}/output_items", None),
    ):
        _, page = caller.get(path)
        _, rest = caller.get(path, after=page["data"][-1]["id"], limit=100)
        ids = [one["id"] for one in [*page["data"], *rest["data"]]]
        assert (len(page["data"]), page["has_more"], rest["has_more"]) == (20, True, False)
        assert (page["first_id"], page["last_id"]) == (ids[0], ids[19])
        if expected is None:
            items = [*page["data"], *rest["data"]]
            assert [item["datasource_item_id"] for item in items] == [*range(21)]
        else:
            assert ids == expected
        for value, code in (("0", "below_min"), ("101", "above_max")):
            status, answer = caller.get(path, limit=value)
            told = (status, answer["error"]["param"], answer["error"]["code"])
            assert told == (400, "limit", f"integer_{code}_value")
