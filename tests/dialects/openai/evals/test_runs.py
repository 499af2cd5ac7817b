"""Runs through the wire, from the first answer to the last state."""

import gzip
import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.datasets.models import File
from apps.evaluations.models import Result, Run, Shard
from evalplatform.dialects.openai.evals import runs as runs_module
from evalplatform.dialects.openai.evals import source_echo
from evalplatform.dialects.openai.evals.runs import EvalRunSerializer
from evalplatform.dialects.openai.ids import RUN_ID
from evalplatform.dialects.openai.words import RUN_STATUS
from tests.dialects.openai.caller import (
    ROWS,
    STRING_CHECK,
    Caller,
    chat_body,
    line_of,
    run_body,
    work,
)
from tests.factories import make_actor

JSONL = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
ZERO = {"total": 0, "errored": 0, "failed": 0, "passed": 0}


def stored(run: dict[str, Any]) -> Run:
    return Run.objects.get(pk=RUN_ID.to_internal_value(run["id"]))


def in_state(caller: Caller, eval_id: str, state: str) -> dict[str, Any]:
    run = caller.new_run(eval_id)
    Run.objects.filter(pk=stored(run).pk).update(state=state)
    return run


@pytest.mark.django_db
def test_a_new_run_is_queued_with_nothing_counted():
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    status, run = caller.post(f"/evals/{eval_id}/runs", run_body(name="first", metadata={"a": "b"}))
    assert status == 201
    assert run.keys() == EvalRunSerializer().fields.keys() - {*source_echo.LABELS}
    pk = stored(run).pk
    expected = {
        "object": "eval.run",
        "eval_id": eval_id,
        "status": "queued",
        "model": "",
        "name": "first",
        "metadata": {"a": "b"},
        "report_url": f"http://testserver/app/runs/{pk}/",
        "result_counts": ZERO,
        "per_model_usage": None,
        "per_testing_criteria_results": None,
        "error": None,
        "shared_with_openai": False,
        "data_source": run_body()["data_source"],
    }
    assert {name: run[name] for name in expected} == expected
    assert caller.get(f"/evals/{eval_id}/runs/{run['id']}") == (200, run)


@pytest.mark.django_db
def test_a_run_without_a_name_is_given_one():
    caller = Caller()
    run = caller.new_run(caller.new_eval()["id"])
    assert run["name"]
    assert run["metadata"] == {}


@pytest.mark.django_db
def test_a_completions_source_comes_back_with_what_the_hosted_service_adds():
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    source = caller.new_run(eval_id, chat_body())["data_source"]
    (message,) = chat_body()["data_source"]["input_messages"]["template"]
    assert source == {
        **chat_body()["data_source"],
        "input_messages": {"type": "template", "template": [{**message, "type": "message"}]},
        "provider_credentials": None,
        "modalities": None,
        "sampling_params": None,
    }
    params = {"max_completions_tokens": 5, "seed": None, "odd": {"kept": True}}
    source = caller.new_run(eval_id, chat_body(sampling_params=params))["data_source"]
    assert source["sampling_params"] == params


@pytest.mark.django_db
def test_a_prompt_reaches_the_core_in_the_words_of_chat_servers():
    caller = Caller()
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": {"type": "input_text", "text": "{{ item.label }}"}},
        {
            "role": "user",
            "content": [
                "look:",
                {"type": "input_image", "image_url": "{{ item.url }}", "detail": "low"},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
            ],
        },
    ]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    sent = {
        "temperature": 0,
        "top_p": None,
        "max_completions_tokens": 5,
        "response_format": {"type": "json_object"},
        "tools": [tool],
        "odd": 1,
    }
    prompt = {"type": "template", "template": messages}
    run = caller.new_run(
        caller.new_eval()["id"], chat_body(input_messages=prompt, sampling_params=sent)
    )
    assert run["model"] == "builtin/echo"
    target = stored(run).read_target()
    assert target["messages"] == [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "{{ item.label }}"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look:"},
                {"type": "image_url", "image_url": {"url": "{{ item.url }}", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
            ],
        },
    ]
    assert target["params"] == {
        "temperature": 0,
        "max_completion_tokens": 5,
        "response_format": {"type": "json_object"},
        "tools": [tool],
    }


@pytest.mark.django_db
def test_a_field_that_another_type_knows_may_hold_anything():
    caller = Caller()
    odd = {"type": "template", "odd": None}
    body = run_body()
    body["data_source"] |= {"input_messages": odd, "model": 5, "sampling_params": []}
    shown = caller.new_run(caller.new_eval()["id"], body)["data_source"]
    assert shown == body["data_source"]
    criterion = {**STRING_CHECK, "labels": 5, "source": [], "range": "x"}
    (shown,) = caller.new_eval(testing_criteria=[criterion])["testing_criteria"]
    assert shown.items() >= criterion.items()


@pytest.mark.django_db
def test_a_file_may_be_a_source_whatever_becomes_of_it_later():
    caller = Caller()
    _, file = caller.upload(SimpleUploadedFile("rows.jsonl", JSONL))
    source = {"type": "file_id", "id": file["id"]}
    eval_id = caller.new_eval()["id"]
    run = caller.new_run(eval_id, {"data_source": {"type": "jsonl", "source": source}})
    caller.delete(f"/files/{file['id']}")
    assert caller.get(f"/evals/{eval_id}/runs/{run['id']}")[1]["data_source"]["source"] == source


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["inline", "file"])
def test_a_finished_run_says_what_came_of_it(way: str):
    caller = Caller()
    created = caller.new_eval()
    body = run_body()
    if way == "file":
        _, file = caller.upload(SimpleUploadedFile("rows.jsonl", JSONL))
        body = {"data_source": {"type": "jsonl", "source": {"type": "file_id", "id": file["id"]}}}
    run = caller.new_run(created["id"], body)
    if way == "file":
        caller.delete(f"/files/{file['id']}")
    work()
    _, done = caller.get(f"/evals/{created['id']}/runs/{run['id']}")
    assert done["status"] == "completed"
    assert done["result_counts"] == {"total": 3, "errored": 1, "failed": 1, "passed": 1}
    assert done["per_model_usage"] == []
    (criterion,) = created["testing_criteria"]
    assert done["per_testing_criteria_results"] == [line_of(criterion["id"], 1, 1, 1)]
    assert done["data_source"] == body["data_source"]
    assert caller.get(f"/evals/{created['id']}/runs")[1]["data"] == [done]


@pytest.mark.django_db(transaction=True)
def test_a_sampled_run_counts_what_its_model_was_asked():
    caller = Caller()
    echoed = {**STRING_CHECK, "input": "{{ sample.output_text }}"}
    eval_id = caller.new_eval(testing_criteria=[echoed])["id"]
    run = caller.new_run(eval_id, chat_body())
    work()
    _, done = caller.get(f"/evals/{eval_id}/runs/{run['id']}")
    assert done["result_counts"] == {"total": 3, "errored": 0, "failed": 0, "passed": 3}
    assert done["per_model_usage"] == [
        {
            "model_name": "builtin/echo",
            "invocation_count": 3,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "total_tokens": 0,
            "cached_tokens": 0,
        }
    ]


@pytest.mark.django_db(transaction=True)
def test_a_run_over_rows_that_break_the_schema_fails_and_says_where():
    caller = Caller()
    _, file = caller.upload(
        SimpleUploadedFile("rows.jsonl", JSONL + b'\n{"item": {"answer": 5}}\n')
    )
    source = {"type": "file_id", "id": file["id"]}
    eval_id = caller.new_eval()["id"]
    run = caller.new_run(eval_id, {"data_source": {"type": "jsonl", "source": source}})
    work()
    _, failed = caller.get(f"/evals/{eval_id}/runs/{run['id']}")
    assert (failed["status"], failed["result_counts"]) == ("failed", ZERO)
    assert failed["error"]["code"]
    assert "line 5" in failed["error"]["message"]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/cancel", ""])
def test_either_path_cancels_at_once_and_again_without_harm(path: str):
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    where = f"/evals/{eval_id}/runs/{caller.new_run(eval_id)['id']}"
    for content_type in ("application/json", ""):
        response = caller.client.post(f"/v1{where}{path}", b"", content_type=content_type)
        assert (response.status_code, response.json()["status"]) == (200, "canceled")
    _, run = caller.get(where)
    assert (run["status"], run["error"]) == ("canceled", None)
    assert run["per_testing_criteria_results"][0]["passed"] == 0


@pytest.mark.django_db
@pytest.mark.parametrize("state", [Run.State.COMPLETED, Run.State.FAILED])
def test_a_run_that_is_over_cannot_be_canceled(state: str):
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    where = f"/evals/{eval_id}/runs/{in_state(caller, eval_id, state)['id']}"
    status, answer = caller.post(f"{where}/cancel")
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert caller.get(where)[1]["status"] == RUN_STATUS[state]


@pytest.mark.django_db
def test_a_deleted_run_and_its_items_are_gone():
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    run = caller.new_run(eval_id)
    where = f"/evals/{eval_id}/runs/{run['id']}"
    answer = {"object": "eval.run.deleted", "deleted": True, "run_id": run["id"]}
    assert caller.delete(where) == (200, answer)
    assert stored(run).state == Run.State.CANCELED
    assert [caller.get(where + path)[0] for path in ("", "/output_items")] == [404, 404]
    assert caller.delete(where)[0] == 404
    assert caller.get(f"/evals/{eval_id}/runs")[1]["data"] == []


@pytest.mark.django_db
def test_runs_are_listed_by_status():
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    runs = {status: in_state(caller, eval_id, state) for state, status in RUN_STATUS.items()}
    assert RUN_STATUS.keys() == set(Run.State)
    for status, run in runs.items():
        _, page = caller.get(f"/evals/{eval_id}/runs", status=status)
        assert [row["id"] for row in page["data"]] == [run["id"]]
        assert page["data"][0]["status"] == status
    assert len(caller.get(f"/evals/{eval_id}/runs")[1]["data"]) == len(runs)


@pytest.mark.django_db
def test_a_page_goes_on_after_a_run_whose_status_has_changed():
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    first, second = (caller.new_run(eval_id) for _ in range(2))
    Run.objects.filter(pk=stored(first).pk).update(state=Run.State.RUNNING)
    _, page = caller.get(f"/evals/{eval_id}/runs", status="queued", after=first["id"])
    assert [row["id"] for row in page["data"]] == [second["id"]]


@pytest.mark.django_db
def test_a_run_is_found_under_its_own_eval_only():
    caller = Caller()
    eval_id, other = caller.new_eval()["id"], caller.new_eval()["id"]
    run_id = caller.new_run(eval_id)["id"]
    assert caller.get(f"/evals/{other}/runs/{run_id}")[0] == 404
    assert caller.post(f"/evals/{other}/runs/{run_id}/cancel")[0] == 404
    status, answer = caller.get(f"/evals/{other}/runs", after=run_id)
    assert (status, answer["error"]["param"]) == (400, "after")
    for name in ("evalrun_" + "0" * 32, "x", eval_id):
        assert caller.get(f"/evals/{eval_id}/runs/{name}")[0] == 404


@pytest.mark.django_db
def test_another_accounts_run_is_not_found():
    theirs = Caller(make_actor())
    eval_id = theirs.new_eval()["id"]
    run_id = theirs.new_run(eval_id)["id"]
    caller = Caller()
    mine = caller.new_eval()["id"]
    for where in (f"/evals/{eval_id}/runs/{run_id}", f"/evals/{mine}/runs/{run_id}"):
        assert caller.get(where)[0] == 404
        assert caller.get(f"{where}/output_items")[0] == 404
        assert caller.post(f"{where}/cancel")[0] == 404
        assert caller.delete(where)[0] == 404
    assert Run.objects.get().state == Run.State.QUEUED


@pytest.mark.django_db
def test_rows_above_a_mebibyte_are_echoed_by_the_first_of_them_wherever_a_run_is_shown():
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    row = {"item": {"answer": "x" * 1_000}}
    # A line of the file has 30 bytes around the text.
    whole, cut = [row] * 1_000, [row] * 1_100
    small = caller.new_run(eval_id, run_body(whole))
    large = caller.new_run(eval_id, run_body(cut))
    assert small["data_source"]["source"]["content"] == whole
    first = large["data_source"]["source"]["content"]
    assert first == [row] * len(first)
    assert 10 < len(first) < 100
    where = f"/evals/{eval_id}/runs"
    assert caller.get(where)[1]["data"] == [small, large]
    for forget in (False, True):
        if forget:  # as after a restart
            source_echo._ECHOES.forget()
        assert caller.get(f"{where}/{large['id']}")[1] == large
        assert caller.get(f"{where}/{small['id']}")[1] == small


@pytest.mark.django_db
def test_a_page_of_runs_with_many_rows_is_sent_in_pieces_and_is_the_same(monkeypatch):
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    made = [caller.new_run(eval_id, run_body(ROWS * number)) for number in range(12)]
    where = f"/evals/{eval_id}/runs"
    _, whole = caller.get(where, limit=11)
    monkeypatch.setattr(runs_module, "AT_ONCE_BYTES", 0)
    source_echo._ECHOES.forget()
    answer = caller.client.get(f"/v1{where}", {"limit": 11})
    assert answer.streaming
    assert json.loads(answer.getvalue()) == whole
    assert whole["data"] == made[:11]
    assert whole["has_more"]


@pytest.mark.django_db
@pytest.mark.parametrize(("size", "count"), [(200_000, 1), (1_200_000, 0)])
def test_of_long_rows_the_first_is_echoed_where_it_is_within_the_bound(size, count):
    caller = Caller()
    rows = [{"item": {"answer": "x" * size}}] * 8
    run = caller.new_run(caller.new_eval()["id"], run_body(rows))
    assert run["data_source"]["source"]["content"] == rows[:count]


@pytest.mark.django_db
def test_rows_come_back_with_every_key_and_number_they_came_with():
    caller = Caller()
    rows = [
        {"extra": [1], "item": {"b": 1, "a": 2**70, "é": "\u2028\n", "z": 1.0}, "sample": {}},
        {"item": {"answer": "}\n,{"}},
    ]
    run = caller.new_run(caller.new_eval()["id"], run_body(rows))
    assert run["data_source"]["source"]["content"] == rows
    assert caller.new_run(run["eval_id"], run_body([]))["data_source"]["source"]["content"] == []


@pytest.mark.django_db
def test_polling_a_going_run_takes_two_queries_besides_the_key(django_assert_num_queries):
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    run = in_state(caller, eval_id, Run.State.RUNNING)
    row = stored(run)
    for number, done in enumerate((3, 0, 2)):
        Shard.objects.create(
            account=row.account,
            run=row,
            number=number,
            first_row=3 * number,
            row_count=3,
            start=0,
            stop=0,
            done_count=done,
            passed_count=done,
        )
    with django_assert_num_queries(3):
        _, answer = caller.get(f"/evals/{eval_id}/runs/{run['id']}")
    assert answer["result_counts"] == {"total": 5, "errored": 0, "failed": 0, "passed": 5}
    assert answer["status"] == "in_progress"


@pytest.mark.django_db
def test_a_page_of_runs_takes_as_many_queries_as_one_run(django_assert_max_num_queries):
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    for state in [*Run.State] * 3:
        in_state(caller, eval_id, state)
    with django_assert_max_num_queries(6):  # key, eval, runs, rows, criteria, counts
        _, page = caller.get(f"/evals/{eval_id}/runs")
    assert len(page["data"]) == 15


@pytest.mark.django_db
def test_a_large_body_of_rows_is_taken():
    caller = Caller()
    text = "x" * 3_400
    rows = [{"item": {"answer": text, "number": number}} for number in range(5_000)]
    run = caller.new_run(caller.new_eval()["id"], run_body(rows))
    assert File.objects.get().byte_count > 16 * 1024 * 1024
    first = run["data_source"]["source"]["content"]
    assert first == rows[: len(first)] != []


@pytest.mark.django_db
def test_a_run_of_another_face_is_told_in_the_vendors_words():
    caller = Caller()
    eval_id = caller.new_eval()["id"]
    run = stored(caller.new_run(eval_id, chat_body()))
    Run.objects.filter(pk=run.pk).update(spec="{}", dialect="sgp")
    _, shown = caller.get(f"/evals/{eval_id}/runs/{RUN_ID.to_representation(run.pk)}")
    message = {"role": "user", "content": "{{ item.label }}", "type": "message"}
    assert shown["data_source"]["type"] == "completions"
    assert shown["data_source"]["input_messages"]["template"] == [message]
    assert shown["data_source"]["source"]["content"] == ROWS
    assert Result.objects.count() == 0


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"question;answer\n1;2\n3;4\n", "CSV with semicolons, 2 columns"),
        (b'[{"item": {"answer": "x", "label": "x"}}]', "a JSON array"),
        (
            b'{"data": [{"item": {"answer": "x", "label": "x"}}]}',
            "one JSON object whose 'data' is a list of rows",
        ),
        ('{"item": {}}\n'.encode("utf-16"), "UTF-16 text"),
        (gzip.compress(b'{"item": {}}\n', mtime=0), "gzip"),
        (b"PAR1 and more", "Parquet"),
    ],
)
def test_a_file_of_another_shape_is_refused_when_a_run_is_made(content: bytes, words: str) -> None:
    caller = Caller()
    created = caller.new_eval()
    _, file = caller.upload(SimpleUploadedFile("rows.jsonl", content))
    source = {"type": "file_id", "id": file["id"]}
    for body in ({"data_source": {"type": "jsonl", "source": source}}, chat_body(source=source)):
        status, refused = caller.post(f"/evals/{created['id']}/runs", body)
        assert (status, refused["error"]["param"]) == (400, "data_source.source.id")
        assert (
            f"must be JSONL in UTF-8, a row a line, but seems to be {words}"
            in (refused["error"]["message"])
        )
