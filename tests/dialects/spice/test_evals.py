"""POST /v1/evals/{name} and its list, answered by a worker in this process."""

import csv
import io
import json
import threading
from typing import Any

import pytest
from django.db import connection
from pytest_django.fixtures import Settings

from apps.accounts.roles import Role
from apps.evaluations.engine.worker import Worker
from apps.evaluations.models import Evaluation, Result, Run
from apps.evaluations.services.named_runs import name_evaluation
from apps.evaluations.services.runs import cancel_run
from apps.inference.models import ServedModel
from tests.dialects.spice.caller import ROWS, Caller
from tests.factories import (
    make_actor,
    make_endpoint,
    make_evaluation,
    make_version,
)
from tests.model_server import ModelServer
from tests.patience import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

FIELDS = [
    *("primary_key", "time_column", "dataset", "model", "status"),
    *("error_message", "scorers", "metrics"),
]


def test_a_run_is_answered_when_it_is_over(caller: Caller, working: None):
    caller.have()
    answer = caller.post()
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "application/json"
    told = answer.json()
    assert list(told) == FIELDS
    run = Run.objects.get()
    assert told["primary_key"] == run.pk.hex
    assert told["time_column"] == f"{run.created_at:%Y-%m-%dT%H:%M:%SZ}"
    assert told["metrics"].pop("match/mean") == pytest.approx(1 / 3)
    assert told["metrics"].pop("levenshtein/mean") == pytest.approx((1 + 4 / 7 + 0) / 3)
    assert told | {"primary_key": "", "time_column": ""} == {
        "primary_key": "",
        "time_column": "",
        "dataset": "trivia",
        "model": "builtin/echo",
        "status": "completed",
        "error_message": None,
        "scorers": ["match", "levenshtein"],
        "metrics": {},
    }


def test_three_renderings_of_the_same_eval_carry_equal_values(caller: Caller, working: None):
    caller.have(scorers=["match", "includes", "match"])
    as_json = caller.post(HTTP_ACCEPT="application/json").json()
    in_csv = caller.post(HTTP_ACCEPT="text/csv")
    assert in_csv["Content-Type"] == "text/csv; charset=utf-8"
    names, values = csv.reader(io.StringIO(in_csv.content.decode(), newline=""))
    assert names == FIELDS
    table = caller.post(HTTP_ACCEPT="text/plain")
    assert table["Content-Type"] == "text/plain; charset=utf-8"
    cells = [cell.strip() for cell in table.content.decode().splitlines()[3].split("|")[1:-1]]
    for place, field in enumerate(FIELDS):
        value = as_json[field]
        if field in {"primary_key", "time_column"}:
            assert len(values[place]) == len(cells[place]) == len(value)
        elif field == "scorers":
            assert json.loads(values[place]) == value == ["match", "includes", "match"]
            assert cells[place] == "match, includes, match"
        elif field == "metrics":
            assert json.loads(values[place]) == json.loads(cells[place]) == value
        else:
            assert values[place] == cells[place] == (value or "")


def test_each_post_is_a_run_of_its_own(caller: Caller, working: None):
    caller.have()
    assert caller.post().json()["primary_key"] != caller.post().json()["primary_key"]


def test_a_reply_without_content_is_an_empty_text(
    caller: Caller, working: None, model_server: ModelServer
):
    make_endpoint(caller.actor, model_server.base_url, models=["null"])
    caller.have(items=[{"input": "Say nothing", "ideal": ""}], scorers=["match"])
    assert caller.post(body={"model": "null"}).json()["metrics"] == {"match/mean": 1.0}


def test_messages_in_the_input_are_sent_as_such(
    caller: Caller, working: None, model_server: ModelServer
):
    make_endpoint(caller.actor, model_server.base_url)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "two"}]
    rows = [
        {"input": messages, "ideal": "two"},
        {"input": json.dumps(messages), "ideal": "two"},
        {"input": "[1, 2]", "ideal": "[1, 2]"},
        {"input": "[]", "ideal": "[]"},
        {"input": '{"role": "user"}', "ideal": '{"role": "user"}'},
        {"input": None, "ideal": None},
    ]
    caller.have(items=rows, scorers=["match"])
    told = caller.post(body={"model": "m"}).json()
    assert told["metrics"] == {"match/mean": 1.0}, told
    sent = [json.loads(one)["input"] for one in exchanges()]
    assert sent[0] == sent[1] == messages
    assert sent[2] == [{"role": "user", "content": "[1, 2]"}]
    assert sent[5] == [{"role": "user", "content": ""}]


def exchanges() -> list[str]:
    return list(Result.objects.in_order().values_list("exchange", flat=True))


def test_a_declared_model_is_asked_with_its_prompt_and_parameters(
    caller: Caller, working: None, model_server: ModelServer
):
    make_endpoint(caller.actor, model_server.base_url)
    ServedModel.objects.filter(name="m").update(
        system_prompt="Be brief{{ actual }}.", prompt_is_template=True, params='{"temperature":0}'
    )
    caller.have(items=[{"input": "two", "ideal": "two"}], scorers=["match"])
    assert caller.post(body={"model": "m"}).json()["metrics"] == {"match/mean": 1.0}
    [exchange] = exchanges()
    assert json.loads(exchange)["input"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "two"},
    ]


def test_the_first_rows_ideal_decides_whether_choices_are_compared(
    caller: Caller, working: None, model_server: ModelServer
):
    make_endpoint(caller.actor, model_server.base_url, models=["answer:yes"])
    choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}}
    rows = [{"input": "?", "ideal": [choice]}, {"input": "?", "ideal": "yes"}]
    caller.have(items=rows, scorers=["match", "includes"])
    told = caller.post(body={"model": "answer:yes"}).json()
    # Bare choices hardly ever equal a real answer's; a text is held against the first content.
    assert told["metrics"] == {"match/mean": 0.5, "includes/mean": 1.0}


@pytest.mark.parametrize("scorers", [[], ["match"], ["match", "levenshtein"]])
def test_no_rows_complete_with_zeros(caller: Caller, working: None, scorers: list[str]):
    caller.have(items=[], scorers=scorers)
    told = caller.post().json()
    assert (told["status"], told["error_message"]) == ("completed", None)
    assert told["metrics"] == {f"{scorer}/mean": 0.0 for scorer in scorers}


def test_without_scorers_the_model_is_asked_all_the_same(
    caller: Caller, working: None, model_server: ModelServer
):
    make_endpoint(caller.actor, model_server.base_url)
    caller.have(scorers=["match"])
    caller.have(scorers=[], dataset="other")
    told = caller.post(body={"model": "m"}).json()
    assert (told["status"], told["scorers"], told["metrics"]) == ("completed", [], {})
    assert model_server.counts()["total"] == len(ROWS)


def test_an_eval_of_another_dialect_that_has_a_name_can_be_run(caller: Caller, working: None):
    make_version(caller.actor, items=ROWS, name="trivia")
    evaluation = make_evaluation(caller.actor)
    Evaluation.objects.filter(pk=evaluation.pk).update(call_name="own", dataset_name="trivia")
    [told] = caller.listed().json()
    assert told == {"name": "own", "dataset": "trivia", "scorers": ["same"]}
    # Its criterion speaks of a label, which these rows do not have.
    failed = caller.post("own").json()
    assert failed["status"] == "failed"
    assert "same" in failed["error_message"]


def test_the_runtimes_row_comes_on_request(caller: Caller, working: None):
    caller.have()
    [row] = caller.post(HTTP_X_SPICE_ROW_FORMAT="runtime").json()
    assert list(row) == [
        *("id", "created_at", "completed_at", "dataset", "model", "status", "scorers", "metrics")
    ]
    assert row["status"] == "Completed"
    assert not row["created_at"].endswith("Z")


@pytest.mark.parametrize(
    ("items", "scorers", "model", "words"),
    [
        (ROWS, ["match"], "fail-500", ["capitals", "Row ", "500"]),
        (ROWS, ["match"], "garbage", ["capitals", "Row "]),
        (ROWS, ["match"], "no-choices", ["capitals", "Row "]),
        (ROWS, ["match", "nonsense"], "m", ["nonsense"]),
        ([{"input": "x"}], ["match"], "m", ["ideal"]),
        ([{"ideal": "x"}], ["match"], "m", ["input"]),
        ([{"input": 5, "ideal": "x"}], ["match"], "m", ["input"]),
        ([{"input": "x", "ideal": True}], ["match"], "m", ["ideal"]),
        ([{"input": "x", "ideal": ["a", 2]}], ["match"], "m", ["ideal"]),
        ([{"input": [{"role": "robot"}], "ideal": "x"}], ["match"], "m", ["input"]),
    ],
)
def test_what_fails_a_run_is_told_with_200(
    caller: Caller,
    working: None,
    model_server: ModelServer,
    items: Any,
    scorers: list[str],
    model: str,
    words: list[str],
):
    make_endpoint(caller.actor, model_server.base_url, models=[model])
    caller.have(items=items, scorers=scorers)
    answer = caller.post(body={"model": model})
    assert answer.status_code == 200
    told = answer.json()
    assert (told["status"], told["metrics"], told["scorers"]) == ("failed", {}, scorers)
    assert all(word in told["error_message"] for word in words), told["error_message"]


def test_any_text_of_a_list_as_ideal_counts(caller: Caller, working: None):
    """Source: docs/contracts/spice.md, section 20; builtin/echo says the input again."""
    items = [
        {"input": "Rome", "ideal": ["Paris", "Rome"]},
        {"input": "It is Rome.", "ideal": ["Roma", "Rome"]},
        {"input": "the ROME", "ideal": ["Paris", "Rome!"]},
        {"input": "Oslo", "ideal": ["Paris", "Rome"]},
    ]
    caller.have(items=items, scorers=["match", "includes", "fuzzy_match", "json_match"])
    told = caller.post().json()
    assert (told["status"], told["error_message"]) == ("completed", None)
    assert told["metrics"] == {
        "match/mean": 0.25,
        "includes/mean": 0.5,
        "fuzzy_match/mean": 0.75,
        "json_match/mean": 0.0,
    }


def test_of_several_ideals_levenshtein_takes_the_best(caller: Caller, working: None):
    items = [{"input": "kitten", "ideal": ["nothing", "sitting"]}]
    caller.have(items=items, scorers=["levenshtein"])
    assert caller.post().json()["metrics"] == {"levenshtein/mean": pytest.approx(4 / 7)}


def test_an_unknown_scorer_costs_no_call(caller: Caller, model_server: ModelServer):
    make_endpoint(caller.actor, model_server.base_url)
    caller.have(scorers=["nonsense"])
    assert caller.post(body={"model": "m"}).json()["status"] == "failed"
    assert model_server.counts()["total"] == 0


def test_a_canceled_run_is_answered_as_failed(caller: Caller, model_server: ModelServer):
    caller.have()
    answers: list[Any] = []

    def wait() -> None:
        try:
            answers.append(caller.post().json())
        finally:
            connection.close()

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_until(Run.objects.exists, 10)
    cancel_run(caller.actor, Run.objects.get())
    waiting.join()
    [told] = answers
    assert told["status"] == "failed"
    assert "canceled" in told["error_message"]


def test_a_failed_run_leaves_no_trace_in_the_next(
    caller: Caller, working: None, model_server: ModelServer
):
    make_endpoint(caller.actor, model_server.base_url, models=["garbage", "m"])
    caller.have(scorers=["match"])
    assert caller.post(body={"model": "garbage"}).json()["status"] == "failed"
    assert caller.post(body={"model": "m"}).json()["metrics"] == {"match/mean": 1 / 3}


@pytest.mark.parametrize(
    ("sent", "status", "line"),
    [
        ({"HTTP_X_API_KEY": "ep-wrong"}, 401, "Unauthorized"),
        ({"HTTP_X_API_KEY": ""}, 401, "Unauthorized"),
        ({"HTTP_X_API_KEY": "", "name": "nothing", "body": b"{"}, 401, "Unauthorized"),
        ({"content_type": "text/plain"}, 415, "application/json"),
        ({"content_type": ""}, 415, "application/json"),
        ({"content_type": "application/x-www-form-urlencoded"}, 415, "application/json"),
        ({"body": b""}, 400, "could not be parsed"),
        ({"body": b'{"model": "m",}'}, 400, "could not be parsed"),
        ({"body": b'{"model": "\xff"}'}, 400, "could not be parsed"),
        ({"body": b'{"model": "a\\u0000b"}'}, 400, "could not be parsed"),
        ({"body": ["m"]}, 422, "object"),
        ({"body": {}}, 422, "model"),
        ({"body": {"model": None}}, 422, "model"),
        ({"body": {"model": 5}}, 422, "model"),
        ({"name": "nothing"}, 404, "eval 'nothing' not found"),
        ({"name": "CAPITALS"}, 404, "eval 'CAPITALS' not found"),
        ({"name": "a%20b%C3%A9+c"}, 404, "eval 'a bé+c' not found"),
        ({"name": "a%00b"}, 404, "eval 'a\0b' not found"),
        ({"body": {"model": "none"}}, 404, "model 'none' not found"),
        ({"body": {"model": ""}}, 404, "model '' not found"),
        ({"name": "orphan"}, 404, "dataset 'gone' not found"),
        ({"name": "orphan", "body": {"model": "none"}}, 404, "model 'none' not found"),
        ({"name": "nothing", "body": {"model": "none"}}, 404, "eval 'nothing' not found"),
    ],
)
def test_refusals_come_as_one_line_in_the_contracts_order(
    caller: Caller, sent: dict[str, Any], status: int, line: str
):
    caller.have()
    name_evaluation(caller.actor, call_name="orphan", dataset_name="gone", scorers=["match"])
    answer = caller.post(sent.pop("name", "capitals"), sent.pop("body", None), **sent)
    text = answer.content.decode()
    assert (answer.status_code, answer["Content-Type"]) == (status, "text/plain; charset=utf-8")
    assert "\n" not in text
    assert text == line if status in {401, 404} else line in text
    assert not Run.objects.exists()


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.x+json"])
def test_any_json_content_type_will_do(caller: Caller, working: None, kind: str):
    caller.have()
    assert caller.post(content_type=kind).status_code == 200


def test_a_bearer_key_will_do_as_well(caller: Caller, working: None):
    caller.have()
    answer = caller.client.post(
        "/v1/evals/capitals",
        {"model": "builtin/echo"},
        content_type="application/json",
        HTTP_AUTHORIZATION=f"Bearer {caller.secret}",
    )
    assert answer.json()["status"] == "completed"


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_other_methods_are_refused_in_this_dialect(caller: Caller, method: str):
    caller.have()
    ask = getattr(caller.client, method)
    answer = ask("/v1/evals/capitals", headers={"x-api-key": caller.secret})
    assert (answer.status_code, answer["Content-Type"]) == (405, "text/plain; charset=utf-8")
    assert ask("/v1/evals/capitals", headers={"x-api-key": "no"}).status_code == 401


def test_a_viewer_may_list_and_not_run(caller: Caller):
    caller.have()
    reader = Caller(make_actor(Role.VIEWER, account=caller.actor.account))
    assert reader.listed().status_code == 200
    answer = reader.post()
    assert (answer.status_code, answer["Content-Type"]) == (403, "text/plain; charset=utf-8")


def test_a_run_that_takes_too_long_goes_on(caller: Caller, settings: Settings):
    settings.WAITING_SECONDS = 0.1
    caller.have()
    answer = caller.post()
    run = Run.objects.get()
    assert answer.status_code == 504
    assert run.pk.hex in answer.content.decode()
    assert f"/app/runs/{run.pk}/" in answer.content.decode()
    Worker().run()
    run.refresh_from_db()
    assert run.state == Run.State.COMPLETED


def test_the_list_has_the_named_evals_in_the_order_of_their_registration(caller: Caller):
    assert caller.listed().json() == []
    caller.have("zulu", dataset="one")
    name_evaluation(
        caller.actor,
        call_name="alpha",
        dataset_name='näme, with "quotes"\n🎈',
        scorers=["b", "a", "b"],
        description="Hard ones",
    )
    make_evaluation(caller.actor)
    answer = caller.listed()
    assert answer["Content-Type"] == "application/json"
    assert answer.json() == [
        {"name": "zulu", "dataset": "one", "scorers": ["match", "levenshtein"]},
        {
            "name": "alpha",
            "description": "Hard ones",
            "dataset": 'näme, with "quotes"\n🎈',
            "scorers": ["b", "a", "b"],
        },
    ]
    slashed = caller.client.get("/v1/evals/", headers={"x-api-key": caller.secret})
    assert (slashed.status_code, slashed.content) == (200, answer.content)


def test_an_account_has_names_of_its_own(caller: Caller, working: None):
    caller.have()
    stranger = Caller()
    assert stranger.listed().json() == []
    assert stranger.post().content.decode() == "eval 'capitals' not found"
    stranger.have(items=[{"input": "a", "ideal": "a"}], scorers=["match"])
    assert stranger.post().json()["metrics"] == {"match/mean": 1.0}


def test_naming_again_changes_the_eval_and_not_its_past(caller: Caller, working: None):
    first = caller.have(scorers=["match"])
    caller.post()
    changed = name_evaluation(
        caller.actor, call_name="capitals", dataset_name="trivia", scorers=["includes"]
    )
    assert changed.pk == first.pk
    assert caller.post().json()["scorers"] == ["includes"]
    versions = Run.objects.order_by("created_at").values_list("criteria_version", flat=True)
    assert list(versions) == [1, 2] or versions[0] < versions[1]
    caller.post()
    assert Run.objects.order_by("-created_at").first().criteria_version == versions[1]


def test_a_scorer_that_is_registered_later_is_found(
    caller: Caller, working: None, model_server: ModelServer
):
    caller.have(scorers=['answer:{"score": 0.5}'])
    assert caller.post().json()["status"] == "failed"
    make_endpoint(caller.actor, model_server.base_url, models=['answer:{"score": 0.5}'])
    told = caller.post().json()
    assert told["metrics"] == {'answer:{"score": 0.5}/mean': 0.5}, told
