"""The admin of evaluations, runs, results and endpoints: who sees what, and what actions do."""

import json

import pytest
from django.contrib import admin
from django.contrib.messages import get_messages
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.accounts.admin_display import SHOWN_LENGTH, block, pretty, preview
from apps.accounts.models import AuditEvent
from apps.accounts.roles import Role
from apps.evaluations.engine.close import close_run
from apps.evaluations.engine.plan import claim_plan, plan_run
from apps.evaluations.models import MachineHeartbeat, Result, Run, Score, Shard, WorkerHeartbeat
from apps.evaluations.services.evaluations import NewCriterion, create_evaluation
from apps.evaluations.services.runs import start_run
from apps.evaluations.targets import Chat
from apps.ids import new_id
from apps.inference.endpoints import add_endpoint, set_endpoint_disabled
from apps.inference.models import ModelEndpoint, ServedModel, StoredCompletion
from tests.factories import make_actor, make_user

pytestmark = pytest.mark.django_db
INFERENCE = ("modelendpoint", "storedcompletion")
MODELS = ("evaluation", "run", "result", "modelendpoint")


@pytest.fixture
def root(client):
    user = make_user(is_staff=True, is_superuser=True)
    client.force_login(user)
    return user


def sign_in(client, role: str, **given):
    actor = make_actor(role, user=make_user(is_staff=True), **given)
    client.force_login(actor.user)
    return actor


def page_of(model: str, page: str = "changelist", *args) -> str:
    app = "inference" if model in INFERENCE else "evaluations"
    return reverse(f"admin:{app}_{model}_{page}", args=args)


def text_of(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


def said(response) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


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
        account=run.account,
        run=run,
        row_index=number,
        state=Result.State.ERRORED if is_errored else state,
        sample=None if is_errored else json.dumps({"output_text": f"answer {number}"}),
        exchange=json.dumps({"input": [{"role": "user", "content": "hello"}], "calls": 1}),
        **(fault if is_errored else {}),
    )
    if not is_errored:
        Score.objects.create(
            result=result,
            criterion=criterion,
            value=float(passed),
            passed=passed,
            evidence=f"evidence {number} <b>",
        )
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


def make_endpoint(actor=None, **given) -> ModelEndpoint:
    url = given.pop("base_url", "http://models.example.com/v1")
    given.setdefault("models", ["one"])
    return add_endpoint(actor or make_actor(), base_url=url, **given)


def keep_completion(actor, **given) -> StoredCompletion:
    values = {"kind": "chat", "model": "m", "completion": '{"choices": []}'}
    given.setdefault("messages", '[{"role": "user", "content": "kept words"}]')
    return StoredCompletion.objects.create(account=actor.account, **{**values, **given})


def test_every_list_and_detail_opens_for_a_superuser(client, root):
    run = completed(make_run(errored=1))
    endpoint = make_endpoint()
    rows = {
        "evaluation": run.evaluation,
        "run": run,
        "result": Result.objects.filter(run=run).first(),
        "modelendpoint": endpoint,
        "storedcompletion": keep_completion(make_actor()),
        "workerheartbeat": WorkerHeartbeat.objects.create(
            worker=new_id(), host="here", pid=1, seen_until=timezone.now()
        ),
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
        "result": Result.objects.filter(run=hidden).first(),
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
    result = Result.objects.get(run=run, row_index=1)
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
    result = Result.objects.filter(run=run).first()
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


def served(*rows: dict, initial: int = 0) -> dict:
    data = {
        "models-TOTAL_FORMS": len(rows),
        "models-INITIAL_FORMS": initial,
        "models-MIN_NUM_FORMS": 0,
        "models-MAX_NUM_FORMS": 1000,
    }
    for number, row in enumerate(rows):
        data |= {f"models-{number}-{name}": value for name, value in row.items()}
    return data


def test_an_endpoint_is_added_with_its_models_by_the_service(client):
    actor = sign_in(client, Role.ADMIN)
    given = {
        "account": actor.account.pk,
        "url": "http://models.example.com/v1/",
        "new_key": "sk-very-secret",
        "concurrency": 8,
    }
    rows = (
        {"name": "one", "upstream_name": "", "kind": "chat"},
        {"name": "two", "upstream_name": "two-of-theirs", "kind": "chat"},
        {"name": "vectors", "upstream_name": "", "kind": "embedding"},
    )
    answer = client.post(page_of("modelendpoint", "add"), given | served(*rows))
    assert answer.status_code == 302
    endpoint = ModelEndpoint.objects.get()
    assert (endpoint.base_url, endpoint.api_key, endpoint.concurrency, endpoint.allow_private) == (
        "http://models.example.com/v1",
        "sk-very-secret",
        8,
        False,
    )
    kept = ServedModel.objects.values_list("name", "upstream_name", "kind")
    assert set(kept) == {
        ("one", "", "chat"),
        ("two", "two-of-theirs", "chat"),
        ("vectors", "", "embedding"),
    }
    assert AuditEvent.objects.get(action="endpoint.add").user == actor.user


def test_an_endpoints_key_is_kept_when_left_empty_and_shown_nowhere(client, root):
    actor = make_actor()
    endpoint = make_endpoint(actor, api_key="sk-very-secret")
    model = endpoint.models.get()
    page = page_of("modelendpoint", "change", endpoint.pk)
    row = {"id": model.pk, "endpoint": endpoint.pk, "upstream_name": "theirs", "kind": "chat"}
    given = {"new_key": "", "concurrency": 3, "allow_private": "on", **served(row, initial=1)}
    assert client.post(page, given).status_code == 302
    endpoint.refresh_from_db()
    model.refresh_from_db()
    assert (endpoint.api_key, endpoint.concurrency, endpoint.allow_private) == (
        "sk-very-secret",
        3,
        True,
    )
    assert (model.name, model.upstream_name) == ("one", "theirs")
    client.post(page, {**given, "new_key": "sk-another"})
    endpoint.refresh_from_db()
    assert endpoint.api_key == "sk-another"
    (stored,) = ModelEndpoint.objects.values_list("pk")
    for url in (page, page_of("modelendpoint"), page_of("modelendpoint", "history", *stored)):
        assert "sk-" not in text_of(client.get(url))


def test_a_list_of_endpoints_does_not_read_their_keys(client, root, settings):
    endpoint = make_endpoint(api_key="sk-very-secret")
    # A server that lost its encryption key must still show what it has.
    settings.ENCRYPTION_KEYS = ["A" * 43 + "="]
    text_of(client.get(page_of("modelendpoint")))
    text_of(client.get(page_of("modelendpoint", "change", endpoint.pk)))


def test_what_the_service_refuses_of_an_endpoint_is_said_and_not_done(client, root):
    actor = make_actor()
    make_endpoint(actor, models=["taken"])
    given = {
        "account": actor.account.pk,
        "url": "http://other.example.com/v1",
        "new_key": "",
        "concurrency": 8,
        **served({"name": "taken", "upstream_name": "", "kind": "chat"}),
    }
    answer = client.post(page_of("modelendpoint", "add"), given)
    assert "is served by http://models.example.com/v1 already" in said(answer)
    assert ModelEndpoint.objects.count() == 1


def test_saving_a_disabled_endpoint_leaves_it_disabled(client, root):
    actor = make_actor()
    endpoint = make_endpoint(actor)
    set_endpoint_disabled(actor, endpoint, is_disabled=True)
    page = page_of("modelendpoint", "change", endpoint.pk)
    given = {"new_key": "", "concurrency": 3, **served()}
    assert client.post(page, given).status_code == 302
    endpoint.refresh_from_db()
    assert endpoint.concurrency == 3
    assert endpoint.disabled_at is not None


def test_endpoints_are_disabled_and_enabled_by_actions(client):
    actor = sign_in(client, Role.ADMIN)
    mine, theirs = make_endpoint(actor), make_endpoint()
    for action, is_disabled in (("disable", True), ("disable", True), ("enable", False)):
        chosen = [str(mine.pk), str(theirs.pk)]
        client.post(page_of("modelendpoint"), {"action": action, "_selected_action": chosen})
        mine.refresh_from_db()
        theirs.refresh_from_db()
        assert (mine.disabled_at is not None) == is_disabled
        assert theirs.disabled_at is None
    actions = AuditEvent.objects.filter(object_type="modelendpoint", user=actor.user)
    assert list(actions.order_by("pk").values_list("action", flat=True))[-2:] == [
        "endpoint.disable",
        "endpoint.enable",
    ]


def test_a_model_is_priced_and_removed_on_its_endpoints_page(client, root):
    endpoint = make_endpoint(models=["dear", "old"])
    dear, old = endpoint.models.order_by("name")
    page = page_of("modelendpoint", "change", endpoint.pk)
    prices = {"prompt_price": "2.5", "completion_price": "10"}
    rows = [
        {"id": dear.pk, "endpoint": endpoint.pk, "upstream_name": "", "kind": "chat", **prices},
        {"id": old.pk, "endpoint": endpoint.pk, "kind": "chat", "DELETE": "on"},
    ]
    sent = {"new_key": "", "concurrency": 8, **served(*rows, initial=2)}
    assert client.post(page, sent).status_code == 302
    model = endpoint.models.get()
    assert (model.name, model.prompt_price, model.completion_price) == ("dear", 2.5, 10)
    actions = AuditEvent.objects.filter(object_type="servedmodel").order_by("pk")
    assert list(actions.values_list("action", flat=True)) == ["model.remove", "model.price"]
    rows[0] |= {"prompt_price": "-1"}
    client.post(page, {**sent, **served(rows[0], initial=1)})
    model.refresh_from_db()
    assert model.prompt_price == 2.5


def test_a_kept_completion_is_shown_with_its_messages_and_to_its_account_alone(client):
    actor = sign_in(client, Role.VIEWER)
    kept, foreign = keep_completion(actor), keep_completion(make_actor(), model="theirs")
    listed = text_of(client.get(page_of("storedcompletion")))
    assert str(kept.pk) in listed
    assert "theirs" not in listed
    page = page_of("storedcompletion", "change", kept.pk)
    assert "kept words" in text_of(client.get(page))
    assert client.post(page, {"model": "other"}).status_code == 403
    assert client.get(page_of("storedcompletion", "change", foreign.pk)).status_code == 302
    assert client.get(page_of("storedcompletion", "add")).status_code == 403
    StoredCompletion.objects.update(deleted_at=timezone.now())
    assert client.get(page).status_code == 302


def test_who_works_is_named_so_that_one_understands(client, root):
    shown = text_of(client.get(reverse("admin:index")))
    assert "Tasks at work" in shown
    assert "Machines with workers" in shown
    assert "beats" not in shown


def test_staff_add_endpoints_to_their_own_accounts_alone(client):
    sign_in(client, Role.ADMIN)
    given = {
        "account": make_actor().account.pk,
        "url": "http://models.example.com/v1",
        "concurrency": 8,
        **served(),
    }
    assert client.post(page_of("modelendpoint", "add"), given).status_code == 200
    assert not ModelEndpoint.objects.exists()


def test_long_values_are_cut_and_broken_json_is_shown_as_it_is():
    assert "5 more characters" in block("x" * (SHOWN_LENGTH + 5))
    assert "{broken" in pretty("{broken")
    assert pretty(None) == "–"
    assert preview("a\n  b") == "a b"
    assert len(preview("x" * 10_000)) < 200
