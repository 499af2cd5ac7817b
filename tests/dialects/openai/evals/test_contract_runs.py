"""Section 7 of docs/contracts/openai.md, row by row: what a run shows, and how it ends."""

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from openai.types.evals import RunRetrieveResponse

from apps.evaluations.engine.worker import Worker
from apps.evaluations.models import Run
from evalplatform.dialects.openai.ids import RUN_ID
from tests.dialects.openai.caller import (
    ECHOED,
    NOTHING,
    ROWS,
    STRING_CHECK,
    ZERO,
    Caller,
    chat_body,
    line_of,
    run_body,
    work,
)
from tests.factories import make_endpoint
from tests.model_server import running
from tests.patience import patience, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


CHAT = chat_body()["data_source"]


@pytest.fixture
def caller() -> Caller:
    return Caller()


def test_a_run_has_these_fields_when_it_is_made_and_when_it_is_over(caller: Caller) -> None:
    made = caller.new_eval(testing_criteria=[STRING_CHECK, ECHOED])
    keys = [criterion["id"] for criterion in made["testing_criteria"]]
    body = {"name": "first", "metadata": {"a": "b"}, "data_source": CHAT}
    run = caller.new_run(made["id"], body)
    assert re.fullmatch(r"evalrun_[0-9a-f]{32}", run["id"])
    assert abs(run["created_at"] - time.time()) < 60
    assert run == {
        "object": "eval.run",
        "id": run["id"],
        "eval_id": made["id"],
        "status": "queued",
        "model": "builtin/echo",
        "name": "first",
        "created_at": run["created_at"],
        "report_url": f"http://testserver/app/runs/{RUN_ID.to_internal_value(run['id'])}/",
        "result_counts": ZERO,
        "per_model_usage": None,
        "per_testing_criteria_results": None,
        "data_source": {**CHAT, **NOTHING},
        "error": None,
        "metadata": {"a": "b"},
        "shared_with_openai": False,
    }
    work()
    _, done = caller.get(f"/evals/{made['id']}/runs/{run['id']}")
    tokens = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")
    assert done == {
        **run,
        "status": "completed",
        "result_counts": {"total": 3, "errored": 1, "failed": 1, "passed": 1},
        "per_model_usage": [
            {"model_name": "builtin/echo", "invocation_count": 3, **dict.fromkeys(tokens, 0)}
        ],
        "per_testing_criteria_results": [
            line_of(keys[0], 1, 1, 1),
            line_of(keys[1], 3, 0, 0, index=1),
        ],
    }
    # contract: openai section 21: hosted runs have null here, too, which the types do not know
    RunRetrieveResponse.model_validate({**done, "error": {"code": "", "message": ""}})


@pytest.mark.parametrize(
    ("rows", "status", "counts"),
    [
        ([], "failed", ZERO),
        ([{"item": {}}] * 2, "completed", {**ZERO, "total": 2, "errored": 2}),
        (ROWS[:1], "completed", {**ZERO, "total": 1, "passed": 1}),
    ],
)
def test_a_run_fails_for_what_is_wrong_with_all_of_it_and_never_for_its_items(
    caller: Caller, rows: Any, status: str, counts: dict[str, int]
) -> None:
    run, items = caller.over(run_body(rows))
    assert (run["status"], run["result_counts"], run["model"]) == (status, counts, "")
    assert len(items) == counts["total"]
    if status == "failed":
        assert run["error"].keys() == {"code", "message"}
        assert all(isinstance(word, str) and word for word in run["error"].values())
    else:
        assert run["error"] is None


STATES = ("queued", "in_progress", "completed", "canceled", "failed")


def in_status(caller: Caller, eval_id: str, status: str) -> dict[str, Any]:
    """Make a run that has come to this status, and the rows that it then has."""
    body = run_body([]) if status == "failed" else run_body()
    run = caller.new_run(eval_id, body)
    where = f"/evals/{eval_id}/runs/{run['id']}"
    if status == "in_progress":
        pk = RUN_ID.to_internal_value(run["id"])
        Run.objects.filter(pk=pk).update(state=Run.State.RUNNING)
    elif status == "canceled":
        caller.post(f"{where}/cancel")
    elif status != "queued":
        work()
    _, shown = caller.get(where)
    assert shown["status"] == status
    return shown


@pytest.mark.parametrize("path", ["", "/cancel"])
@pytest.mark.parametrize("status", STATES)
def test_a_run_is_stopped_while_it_goes_and_never_leaves_a_state_that_ends_it(
    caller: Caller, status: str, path: str
) -> None:
    eval_id = caller.new_eval()["id"]
    run = in_status(caller, eval_id, status)
    where = f"/evals/{eval_id}/runs/{run['id']}"
    code, answer = caller.post(where + path)
    if status in ("completed", "failed"):
        assert (code, answer["error"]["type"]) == (400, "invalid_request_error")
        assert caller.get(where) == (200, run)
    elif status == "canceled":
        assert (code, answer) == (200, run)
    else:
        assert (code, answer["status"], answer["error"]) == (200, "canceled", None)
        assert (answer["result_counts"], answer["per_model_usage"]) == (ZERO, [])
        assert [
            (line["passed"], line["failed"]) for line in answer["per_testing_criteria_results"]
        ] == [(0, 0)]
        work()
        assert caller.get(where) == (200, answer)
        assert caller.get(f"{where}/output_items")[1]["data"] == []


@pytest.mark.parametrize("status", STATES)
def test_a_run_of_any_status_is_deleted_with_its_items_and_no_other(
    caller: Caller, status: str
) -> None:
    eval_id = caller.new_eval()["id"]
    other = caller.new_run(eval_id)
    run = in_status(caller, eval_id, status)
    where = f"/evals/{eval_id}/runs/{run['id']}"
    items = caller.get(f"{where}/output_items")[1]["data"]
    assert bool(items) is (status == "completed")
    paths = ["/output_items", *(f"/output_items/{item['id']}" for item in items)]
    expected = {"object": "eval.run.deleted", "deleted": True, "run_id": run["id"]}
    assert caller.delete(where) == (200, expected)
    work()
    for answer in (
        *(caller.get(where + path) for path in ["", *paths]),
        *(caller.post(where + path) for path in ("", "/cancel")),
        caller.delete(where),
    ):
        assert (answer[0], answer[1]["error"]["code"]) == (404, "not_found")
    left = caller.get(f"/evals/{eval_id}/runs")[1]["data"]
    assert [(one["id"], one["status"]) for one in left] == [(other["id"], "completed")]


@pytest.fixture
def slow() -> Iterator[Caller]:
    with running() as server:
        caller = Caller()
        make_endpoint(caller.actor, server.base_url, models=["slow:0.2"], concurrency=2)
        yield caller


def test_what_was_done_before_a_cancel_stays_and_nothing_comes_after_it(slow: Caller) -> None:
    rows = [{"item": {"label": str(number)}} for number in range(60)]
    eval_id = slow.new_eval(testing_criteria=[ECHOED])["id"]
    body = chat_body("slow:0.2", source={"type": "file_content", "content": rows})
    where = f"/evals/{eval_id}/runs/{slow.new_run(eval_id, body)['id']}"

    def work_aside() -> None:
        try:
            Worker().run()
        finally:
            connection.close()

    aside = threading.Thread(target=work_aside)
    aside.start()
    try:
        wait_until(lambda: slow.get(where)[1]["result_counts"]["passed"] >= 2, 20)
        _, going = slow.get(where)
        assert going["status"] == "in_progress"
        assert (going["per_model_usage"], going["per_testing_criteria_results"]) == (None, None)
        assert going["error"] is None
        _, stopped = slow.post(f"{where}/cancel")
        assert stopped["status"] == "canceled"
    finally:
        aside.join(patience(30))
    work()
    assert slow.get(where) == (200, stopped)
    counts = stopped["result_counts"]
    assert 2 <= going["result_counts"]["total"] <= counts["total"] < len(rows)
    assert counts == {**ZERO, "total": counts["total"], "passed": counts["total"]}
    items = slow.get(f"{where}/output_items", limit=100)[1]["data"]
    assert [item["status"] for item in items] == ["pass"] * counts["total"]
    [line] = stopped["per_testing_criteria_results"]
    assert (line["passed"], line["failed"], line["errored"]) == (counts["total"], 0, 0)
