"""Runs over what was kept: stored completions and responses, as they are or asked anew."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.datasets.stored_files import read_file
from apps.evaluations.models import Run
from apps.inference import completion_rows
from apps.inference import stored_completions as completions
from apps.inference.models import StoredCompletion
from apps.inference.stored_completions import Keep, store_completion
from tests.dialects.openai.caller import Caller, run_body, work

pytestmark = pytest.mark.django_db

TEMPLATE = [{"role": "user", "content": "again {{ item.input }}"}]
PROMPT = {"type": "template", "template": TEMPLATE}
CRITERION = {
    "type": "string_check",
    "name": "is one",
    "input": "{{ sample.output_text }}",
    "reference": "one",
    "operation": "eq",
}


def keep(caller: Caller, text: str = "one", kind: str = "chat", **fields: Any) -> StoredCompletion:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": fields.pop("says", text)},
        "finish_reason": "stop",
    }
    messages, params = [{"role": "user", "content": text}], fields.pop("params", {})
    model, created_at = fields.pop("model", "old"), fields.pop("created_at", None)
    return store_completion(
        caller.actor,
        Keep(kind, messages, params, **fields),
        model=model,
        completion={"model": "old-1", "choices": [choice], "usage": {"total_tokens": 3}},
        created_at=created_at,
    )


def new_eval(caller: Caller, kind: str = "stored_completions", **metadata: str) -> str:
    made = caller.new_eval(
        data_source_config={"type": kind, "metadata": metadata}, testing_criteria=[CRITERION]
    )
    return made["id"]


def stored(**filters: Any) -> dict[str, Any]:
    return {"type": "completions", "source": {"type": "stored_completions", **filters}}


def responses(**filters: Any) -> dict[str, Any]:
    return {"type": "responses", "source": {"type": "responses", **filters}}


def start(caller: Caller, eval_id: str, data_source: dict[str, Any]) -> dict[str, Any]:
    return caller.new_run(eval_id, {"data_source": data_source})


def rows_of_the_last_run() -> list[bytes]:
    run = Run.objects.order_by("created_at", "id").last()
    assert run is not None
    assert run.source_file_id is not None
    return b"".join(read_file(run.source_file_id)).splitlines()


def selected(caller: Caller, data_source: dict[str, Any], eval_id: str = "") -> int:
    start(caller, eval_id or new_eval(caller), data_source)
    return len(rows_of_the_last_run())


def finish(caller: Caller, eval_id: str, data_source: dict[str, Any]) -> tuple[Any, Any]:
    """Return the run when it has ended, and its items."""
    made = start(caller, eval_id, data_source)
    work()
    path = f"/evals/{eval_id}/runs/{made['id']}"
    run = caller.get(path)[1]
    assert run["status"] == "completed", run
    return run, caller.get(f"{path}/output_items")[1]["data"]


@pytest.mark.parametrize("kind", ["stored_completions", "logs"])
def test_an_eval_of_what_is_kept_shows_its_schema(kind: str):
    caller = Caller()
    eval_id = new_eval(caller, kind, team="a")
    anything = {"type": "object"}
    assert caller.get(f"/evals/{eval_id}")[1]["data_source_config"] == {
        "type": kind,
        "metadata": {"team": "a"},
        "schema": {
            "type": "object",
            "properties": {"item": anything, "sample": anything},
            "required": ["item", "sample"],
        },
    }


@pytest.mark.django_db(transaction=True)
def test_stored_answers_are_graded_as_they_are():
    caller = Caller()
    keep(caller, "one")
    keep(caller, "two")
    run, items = finish(caller, new_eval(caller), stored())
    assert run["result_counts"] == {"total": 2, "errored": 0, "failed": 1, "passed": 1}
    assert run["data_source"]["source"] == {"type": "stored_completions"}
    assert run["model"] == ""
    assert items[0]["datasource_item"] == {"input": [{"role": "user", "content": "one"}]}
    assert items[0]["sample"]["output"][0]["content"] == "one"
    assert items[0]["sample"]["model"] == "old-1"
    assert caller.get("/files")[1]["data"] == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (PROMPT, 'again [{"role":"user","content":"one"}]'),
        ({"type": "item_reference", "item_reference": "item.input"}, "one"),
    ],
)
def test_a_model_is_asked_anew_with_the_stored_messages(prompt: dict[str, Any], says: str):
    caller = Caller()
    keep(caller, "one", says="something else")
    asked = {"model": "builtin/echo", "input_messages": prompt}
    run, items = finish(caller, new_eval(caller), {**stored(), **asked})
    assert run["data_source"]["model"] == "builtin/echo"
    assert items[0]["sample"]["output"][0]["content"] == says


@pytest.mark.django_db(transaction=True)
def test_responses_are_graded_as_they_are_and_echoed_as_they_were_asked_for():
    caller = Caller()
    status, answer = caller.post("/responses", {"model": "builtin/echo", "input": "one"})
    assert status == 200, answer
    source = responses(limit=5, somethingelse=1)
    run, items = finish(caller, new_eval(caller, "logs"), source)
    assert run["data_source"] == source
    assert [item["status"] for item in items] == ["pass"]
    assert items[0]["datasource_item"]["input"] == [{"role": "user", "content": "one"}]


@pytest.mark.django_db(transaction=True)
def test_nothing_selected_fails_the_run_with_a_reason():
    caller = Caller()
    eval_id = new_eval(caller)
    run = start(caller, eval_id, stored(model="nobody"))
    work()
    status, shown = caller.get(f"/evals/{eval_id}/runs/{run['id']}")
    assert (status, shown["status"]) == (200, "failed")
    assert shown["error"]["message"]


@pytest.mark.django_db(transaction=True)
def test_a_responses_run_over_rows_that_came_along_asks_a_chat_server():
    caller = Caller()
    source = {"type": "file_content", "content": [{"item": {"answer": "a", "label": "x"}}]}
    tool = {"type": "function", "name": "add", "parameters": {"type": "object"}}
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    message = {"role": "user", "content": {"type": "input_text", "text": "{{ item.label }}"}}
    data_source = {
        "type": "responses",
        "source": source,
        "model": "builtin/echo",
        "input_messages": {"type": "template", "template": [{"type": "message", **message}]},
        "sampling_params": {"text": {"format": form}, "tools": [tool], "temperature": 0.5},
    }
    run, items = finish(caller, caller.new_eval()["id"], data_source)
    assert run["data_source"] == data_source
    assert items[0]["sample"]["output"][0]["content"] == "x"
    params = Run.objects.get().read_target()["params"]
    assert params["response_format"]["json_schema"] == {
        "name": "n",
        "schema": {"type": "object"},
        "strict": True,
    }
    assert params["tools"][0]["function"] == {"name": "add", "parameters": {"type": "object"}}
    assert "text" not in params


def test_the_metadata_of_the_eval_and_of_the_run_are_both_asked_for():
    caller = Caller()
    keep(caller, metadata={"team": "a", "case": "1"})
    keep(caller, metadata={"team": "a", "case": "2"})
    keep(caller, metadata={"case": "1"})
    eval_id = new_eval(caller, team="a")
    assert selected(caller, stored(), eval_id) == 2
    assert selected(caller, stored(metadata={"case": "1"}), eval_id) == 1
    assert selected(caller, stored(metadata={"team": "b"}), eval_id) == 0
    assert selected(caller, stored(metadata={"case": "1"})) == 2


def test_rows_are_selected_by_model_time_and_number():
    caller = Caller()
    first = keep(caller, created_at=timezone.now() - timedelta(hours=1))
    keep(caller, model="new")
    second = int(first.created_at.timestamp())
    assert selected(caller, stored(model="new")) == 1
    assert selected(caller, stored(model=None, metadata=None, limit=None)) == 2
    assert selected(caller, stored(created_after=second, limit=1)) == 1
    assert selected(caller, stored(created_before=second, model="old")) == 1
    assert selected(caller, stored(created_before=second - 1)) == 0
    assert selected(caller, stored(created_after=second + 1)) == 1
    assert selected(caller, stored(created_after=second + 7_200)) == 0


@pytest.mark.parametrize("of_a_page", [1, 2, 200])
def test_a_limit_takes_the_newest_and_the_oldest_of_them_comes_first(
    monkeypatch: pytest.MonkeyPatch, of_a_page: int
):
    monkeypatch.setattr(completion_rows, "ROWS_AT_ONCE", of_a_page)
    caller, now = Caller(), timezone.now()
    for number in range(6):
        made = {"created_at": now - timedelta(minutes=9 - number // 2), "metadata": {"a": "b"}}
        params = {"top_p": 0.5 if number % 2 else 1}
        for kind in ("chat", "responses"):
            keep(caller, str(number), kind, params=params, **made)
    before = int((now - timedelta(minutes=8)).timestamp())
    for source, said in (
        (stored(limit=2), ["4", "5"]),
        (responses(limit=3), ["3", "4", "5"]),
        (responses(limit=2, top_p=0.5), ["3", "5"]),
        (stored(limit=3, metadata={"a": "b"}, created_before=before), ["1", "2", "3"]),
        (stored(limit=6), [*"012345"]),
        (stored(limit=9), [*"012345"]),
    ):
        start(caller, new_eval(caller), source)
        items = [json.loads(row)["item"] for row in rows_of_the_last_run()]
        assert [item["input"][-1]["content"] for item in items] == said, source


def test_deleted_ones_other_kinds_and_other_accounts_are_no_rows():
    caller = Caller()
    keep(Caller())
    keep(caller, kind="responses")
    gone = keep(caller)
    completions.delete_completion(caller.actor, gone)
    assert selected(caller, stored()) == 0
    assert selected(caller, responses()) == 1


def test_responses_are_selected_by_how_they_were_asked():
    caller = Caller()
    tools = [{"type": "function", "function": {"name": "add"}}]
    params = {"temperature": 0.5, "user": "ann", "tools": tools, "reasoning_effort": "low"}
    keep(caller, kind="responses", params=params, instructions="Be KIND to all.")
    keep(caller, kind="responses")
    for filters in (
        {"temperature": 0.5},
        {"users": ["bob", "ann"]},
        {"tools": ["add", "sub"]},
        {"reasoning_effort": "low"},
        {"instructions_search": "kind"},
    ):
        assert selected(caller, responses(**filters)) == 1, filters
    assert selected(caller, responses(top_p=1, users=[], tools=None)) == 2
    assert selected(caller, responses(temperature=1)) == 1
    assert selected(caller, responses(users=["nobody"])) == 0


def test_responses_are_selected_by_what_completions_are_too():
    caller = Caller()
    keep(caller, kind="responses", created_at=timezone.now() - timedelta(hours=1))
    last = keep(caller, kind="responses", model="new", params={"top_p": 0.5}, metadata={"a": "b"})
    second = int(last.created_at.timestamp())
    chosen: list[dict[str, Any]] = [
        {"model": "new"},
        {"metadata": {"a": "b"}},
        {"top_p": 0.5},
        {"limit": 1},
        {"created_after": second},
        {"created_before": second - 60},
    ]
    for filters in chosen:
        assert selected(caller, responses(**filters)) == 1, filters
    assert selected(caller, responses(created_after=second - 60, created_before=second)) == 1
    assert selected(caller, responses(**dict.fromkeys(name for one in chosen for name in one))) == 2


def test_every_row_is_taken_once_over_several_pages(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(completion_rows, "ROWS_AT_ONCE", 3)
    caller = Caller()
    at = timezone.now()
    for number in range(10):
        keep(caller, f"text {number}", created_at=at)
    start(caller, new_eval(caller), stored())
    rows = rows_of_the_last_run()
    assert len(rows) == len(set(rows)) == 10


@pytest.mark.parametrize(
    ("data_source", "param", "code"),
    [
        ({**stored(), "model": "builtin/echo"}, "input_messages", "missing_required_parameter"),
        ({**stored(), "input_messages": PROMPT}, "model", "missing_required_parameter"),
        (stored(created_after="x"), "source.created_after", "invalid_type"),
        (stored(created_after=-1), "source.created_after", "integer_below_min_value"),
        (stored(limit=0), "source.limit", "integer_below_min_value"),
        (stored(metadata={"a": 1}), "source.metadata.a", "invalid_type"),
        (responses(reasoning_effort="lots"), "source.reasoning_effort", "invalid_value"),
        ({**stored(), "type": "responses"}, "source.type", "invalid_value"),
        ({**responses(), "type": "completions"}, "source.type", "invalid_value"),
        ({**stored(), "type": "jsonl"}, "source.type", "invalid_value"),
        (
            {**responses(), "sampling_params": {"tools": [{"type": "web_search"}]}},
            "sampling_params.tools[0].type",
            "invalid_value",
        ),
        (
            {"type": "responses", "source": run_body()["data_source"]["source"]},
            "model",
            "missing_required_parameter",
        ),
    ],
)
def test_a_bad_source_is_refused_with_its_field(data_source: dict[str, Any], param: str, code: str):
    caller = Caller()
    status, answer = caller.post(f"/evals/{new_eval(caller)}/runs", {"data_source": data_source})
    assert (status, answer["error"]["param"]) == (400, f"data_source.{param}"), answer
    assert answer["error"]["code"] == code
