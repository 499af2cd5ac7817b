"""The admin of evaluations, runs, results and endpoints: who sees what, and what actions do."""

import json

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.accounts.admin_display import SHOWN_LENGTH, block, pretty, preview
from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.evaluations.engine.close import close_run
from apps.evaluations.engine.plan import claim_plan, plan_run
from apps.evaluations.models import (
    MachineHeartbeat,
    Result,
    Run,
    Shard,
    UpkeepLease,
    WorkerHeartbeat,
    key_of,
)
from apps.evaluations.packing import Verdict
from apps.evaluations.services.evaluations import NewCriterion, create_evaluation
from apps.evaluations.services.runs import start_run
from apps.evaluations.targets import Chat
from apps.ids import new_id
from tests.admin_pages import page_of, said, sign_in, text_of
from tests.factories import make_actor, make_user
from tests.inference.admin_rows import keep_completion, make_endpoint
from tests.judgements import put_verdicts

pytestmark = pytest.mark.django_db
MODELS = ("evaluation", "run", "result", "modelendpoint")


@pytest.fixture
def root(client):
    user = make_user(is_staff=True, is_superuser=True)
    client.force_login(user)
    return user


def make_run(actor=None, *, rows: int = 2, errored: int = 0, name: str = "", **given) -> Run:
    """A run at work, planned and with results: the last are errored, every other one passed."""
    actor = actor or make_actor()
    evaluation = create_evaluation(
        actor,
        name="Triage",
        criteria=[
            NewCriterion(
                "string_check",
                "exact",
                {
                    "input": "{{ sample.output_text }}",
                    "reference": "{{ item.label }}",
                    "operation": "eq",
                },
            )
        ],
        has_sample=True,
        spec={"kept": "for the echo"},
    )
    run = start_run(
        actor,
        evaluation,
        source=[{"item": {"label": f"label {number}"}} for number in range(rows)],
        target=Chat("builtin/echo", messages=[{"role": "user", "content": "{{ item.label }}"}]),
        name=name or "the run",
        dialect="openai",
        **given,
    )
    planned = claim_plan()
    assert planned == run
    plan_run(planned)
    run.refresh_from_db()
    criterion = evaluation.criteria.get()
    for number in range(rows):
        add_result(run, criterion, number, is_errored=number >= rows - errored)
    return run


def add_result(run, criterion, number: int, *, is_errored: bool) -> None:
    passed = number % 2 == 0
    state = Result.State.PASSED if passed else Result.State.FAILED
    fault = {"error_code": "model_timeout", "error_message": "It took too long."}
    result = Result.objects.create(
        id=key_of(run.number, number),
        stored_at=1_790_000_000,
        state=Result.State.ERRORED if is_errored else state,
        sample=None if is_errored else json.dumps({"output_text": f"answer {number}"}),
        exchange=json.dumps({"input": [{"role": "user", "content": "hello"}], "calls": 1}),
        **(fault if is_errored else {}),
    )
    if not is_errored:
        said = Verdict(float(passed), passed, evidence=f"evidence {number} <b>")
        put_verdicts(result, **{criterion.name: said})
    shard = Shard.objects.get(run=run)
    counter = f"{result.state}_count"
    setattr(shard, counter, getattr(shard, counter) + 1)
    shard.done_count += 1
    shard.save()


def completed(run: Run) -> Run:
    Shard.objects.filter(run=run).update(finished_at=timezone.now())
    assert close_run(run.pk)
    run.refresh_from_db()
    return run


def test_every_list_and_detail_opens_for_a_superuser(client, root):
    run = completed(make_run(errored=1))
    endpoint = make_endpoint()
    rows = {
        "evaluation": run.evaluation,
        "run": run,
        "result": Result.objects.of_run(run).first(),
        "modelendpoint": endpoint,
        "storedcompletion": keep_completion(make_actor()),
        "workerheartbeat": WorkerHeartbeat.objects.create(
            worker=new_id(), host="here", pid=1, seen_until=timezone.now()
        ),
        "upkeeplease": UpkeepLease.objects.create(machine="here", lease_until=timezone.now()),
        "machineheartbeat": MachineHeartbeat.objects.create(
            host="here", workers=2, seen_until=timezone.now()
        ),
    }
    for model, row in rows.items():
        text_of(client.get(page_of(model)))
        text_of(client.get(page_of(model, "change", row.pk)))
    text_of(client.get(page_of("modelendpoint", "add")))
    registered = {model._meta.model_name for model in admin.site._registry}
    assert not registered & {"score", "shard", "criterion", "servedmodel", "endpointslot"}


def test_a_list_of_many_takes_as_many_queries_as_one_of_few(client, root):
    actor = make_actor()

    def queries_of(url: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            text_of(client.get(url))
        return len(queries)

    few_run = make_run(actor, rows=2, errored=1)
    make_endpoint(actor, models=["a"])
    lists = [page_of(model) for model in MODELS if model != "result"]
    few = [queries_of(url) for url in lists]
    few_results = queries_of(f"{page_of('result')}?run={few_run.pk}")
    many_run = make_run(actor, rows=12, errored=3)
    for number in range(4):
        make_run(actor)
        url = f"http://models.example.com/{number}/v1"
        make_endpoint(actor, base_url=url, models=[f"b{number}", f"c{number}"])
    assert [queries_of(url) for url in lists] == few
    assert queries_of(f"{page_of('result')}?run={many_run.pk}") == few_results


@pytest.mark.parametrize("role", Role.values)
def test_staff_see_their_own_accounts_rows_and_no_others(client, role):
    mine = make_actor(account=sign_in(client, role).account)
    foreign = make_actor()
    run, hidden = make_run(mine, name="one of mine"), make_run(foreign, name="one of theirs")
    make_endpoint(mine, base_url="http://mine.example.com/v1")
    endpoint = make_endpoint(foreign, base_url="http://theirs.example.com/v1")
    for model in ("run", "modelendpoint", "evaluation"):
        listed = text_of(client.get(page_of(model)))
        assert str(mine.account) in listed
        assert str(foreign.account) not in listed
        assert "theirs" not in listed
    assert "one of mine" in text_of(client.get(f"{page_of('result')}?run={run.pk}"))
    assert "answer 0" not in text_of(client.get(f"{page_of('result')}?run={hidden.pk}"))
    rows = {
        "evaluation": hidden.evaluation,
        "run": hidden,
        "result": Result.objects.of_run(hidden).first(),
        "modelendpoint": endpoint,
    }
    for model, row in rows.items():
        # Django sends whoever asks for a row that is not there to the admin's first page.
        response = client.get(page_of(model, "change", row.pk))
        assert (response.status_code, response["Location"]) == (302, reverse("admin:index"))
    assert client.get(page_of("workerheartbeat")).status_code == 403


def test_staff_cannot_act_on_the_runs_of_others(client):
    sign_in(client, Role.OWNER)
    run = make_run()
    client.post(page_of("run"), {"action": "cancel", "_selected_action": [str(run.pk)]})
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING


def test_a_run_is_listed_with_its_counts_and_rate_while_it_goes_and_when_it_is_done(client, root):
    run = make_run(rows=5, errored=1)
    going = text_of(client.get(page_of("run")))
    assert "2 passed, 2 failed, 1 errored of 5" in going
    assert "50.0% (15.0% to 85.0%) of 4" in going
    completed(run)
    done = text_of(client.get(page_of("run")))
    assert "2 passed, 2 failed, 1 errored of 5" in done
    assert f"/app/runs/{run.pk}/" in done


def test_a_run_that_is_not_planned_yet_is_shown(client, root):
    run = make_run()
    Run.objects.filter(pk=run.pk).update(
        state=Run.State.QUEUED, total_count=0, row_count=0, started_at=None
    )
    text_of(client.get(page_of("run")))
    text_of(client.get(page_of("run", "change", run.pk)))


def test_runs_are_filtered_and_found(client, root):
    actor = make_actor()
    run, other = make_run(actor, name="first"), make_run(actor, name="second")
    completed(other)
    Run.objects.filter(pk=other.pk).update(dialect="elsewhere")

    def found(query: str) -> set[str]:
        listed = text_of(client.get(f"{page_of('run')}?{query}"))
        return {name for name in ("first", "second") if f">{name}</a>" in listed}

    assert found("") == {"first", "second"}
    assert found("state__exact=running") == {"first"}
    assert found("dialect=elsewhere") == {"second"}
    assert found(f"evaluation={run.evaluation.pk}") == {"first"}
    assert found(f"account={actor.account.pk}") == {"first", "second"}
    assert found("q=second") == {"second"}
    assert found("q=Triage") == {"first", "second"}
    assert found(f"q=evalrun_{run.pk.hex}") == {"first"}
    assert found(f"q={run.pk}") == {"first"}


def test_results_are_listed_of_one_run_by_state(client, root):
    run = make_run(rows=4, errored=1)
    assert "Choose a run" in said(client.get(page_of("result")))
    listed = text_of(client.get(f"{page_of('result')}?run={run.pk}"))
    for text in ("label 0", "answer 1", "exact: 1, passed", "exact: 0, failed", "model_timeout"):
        assert text in listed
    errored = text_of(client.get(f"{page_of('result')}?run={run.pk}&state__exact=errored"))
    assert "label 3" in errored
    assert "label 0" not in errored
    assert "label 2" in text_of(client.get(f"{page_of('result')}?run={run.pk}&q=2"))


def test_results_are_never_counted_beyond_the_cap(client, root):
    run = make_run(rows=3)
    with CaptureQueriesContext(connection) as queries:
        # Facets would count once for each choice of each filter.
        text_of(client.get(f"{page_of('result')}?run={run.pk}&_facets=True"))
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
    assert counts
    assert all("LIMIT" in sql for sql in counts)


def test_a_result_shows_item_answer_exchange_and_evidence(client, root):
    run = make_run(rows=2)
    result = Result.objects.of_run(run).get(row_index=1)
    shown = text_of(client.get(page_of("result", "change", result.pk)))
    for text in (
        "&quot;label&quot;: &quot;label 1&quot;",
        "answer 1",
        "&quot;calls&quot;: 1",
        "exact (string_check)",
        "evidence 1 &lt;b&gt;",
        "0, failed",
    ):
        assert text in shown


def test_results_of_a_deleted_run_are_gone(client, root):
    run = make_run()
    result = Result.objects.of_run(run).first()
    client.post(page_of("run", "delete", run.pk), {"post": "yes"})
    run.refresh_from_db()
    assert run.deleted_at is not None
    assert run.state == Run.State.CANCELED
    assert client.get(page_of("result", "change", result.pk)).status_code == 302
    assert "Choose a run" in said(client.get(f"{page_of('result')}?run={run.pk}"))


def test_cancel_says_which_runs_could_not_be(client, root):
    going, done = make_run(name="going"), completed(make_run(name="done"))
    chosen = [str(going.pk), str(done.pk)]
    answer = client.post(page_of("run"), {"action": "cancel", "_selected_action": chosen})
    assert "going: canceled." in said(answer)
    assert "done: This run is completed and can no longer be canceled." in said(answer)
    going.refresh_from_db()
    assert going.state == Run.State.CANCELED
    assert AuditEvent.objects.filter(action="run.cancel").get().user == root


def test_retry_says_which_runs_could_not_be(client, root):
    errored, clean = completed(make_run(errored=1, name="errored")), completed(make_run(name="ok"))
    going = make_run(name="going")
    chosen = [str(run.pk) for run in (errored, clean, going)]
    answer = client.post(page_of("run"), {"action": "retry", "_selected_action": chosen})
    assert "errored: a new run retries what is errored in it." in said(answer)
    assert "ok: Nothing in this run is errored." in said(answer)
    assert "going: The run is still going" in said(answer)
    assert Run.objects.get(retry_of__isnull=False).retry_of == errored


def test_who_may_only_read_acts_on_nothing(client):
    viewer = sign_in(client, Role.VIEWER)
    run = make_run(make_actor(account=viewer.account))
    listed = text_of(client.get(page_of("run")))
    assert run.name in listed
    assert 'value="cancel"' not in listed
    client.post(page_of("run"), {"action": "cancel", "_selected_action": [str(run.pk)]})
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING
    endpoint = make_endpoint(make_actor(account=viewer.account))
    text_of(client.get(page_of("modelendpoint", "change", endpoint.pk)))
    assert client.get(page_of("modelendpoint", "add")).status_code == 403


def test_an_evaluation_shows_its_criteria_and_what_its_dialect_keeps(client, root):
    run = make_run()
    page = page_of("evaluation", "change", run.evaluation.pk)
    shown = text_of(client.get(page))
    for text in (
        "string_check",
        "{{ item.label }}",
        "for the echo",
        f"evaluation={run.evaluation.pk}",
    ):
        assert text in shown
    assert client.post(page, {"name": "another"}).status_code == 403
    assert "Triage" in text_of(
        client.get(f"{page_of('evaluation')}?q=eval_{run.evaluation.pk.hex}")
    )
    client.post(page_of("evaluation", "delete", run.evaluation.pk), {"post": "yes"})
    assert str(run.evaluation.pk) not in text_of(client.get(page_of("evaluation")))


def test_who_works_is_named_so_that_one_understands(client, root):
    shown = text_of(client.get(reverse("admin:index")))
    assert "Tasks at work" in shown
    assert "Machines with workers" in shown
    assert "beats" not in shown


def test_long_values_are_cut_and_broken_json_is_shown_as_it_is():
    assert "5 more characters" in block("x" * (SHOWN_LENGTH + 5))
    assert "{broken" in pretty("{broken")
    assert pretty(None) == "–"
    assert preview("a\n  b") == "a b"
    assert len(preview("x" * 10_000)) < 200
