"""The list of runs, a run's page, and what is done there."""

import json
import re
from datetime import UTC, datetime

import pytest
from django.test import Client
from django.urls import reverse

from apps.evaluations.engine.close import finish_run
from apps.evaluations.models import Run, new_number
from apps.evaluations.services.evaluations import delete_evaluation
from apps.evaluations.services.runs import delete_run
from apps.inference.models import EndpointPace
from apps.strict_json import dump_json
from tests.factories import make_actor, make_endpoint, make_version
from tests.web.pages import names, text_of, url_of
from tests.web.worked import browser_of, make_evaluation, make_run

pytestmark = pytest.mark.django_db


def test_the_list_is_newest_first_and_holds_only_ones_own() -> None:
    actor, stranger = make_actor(), make_actor()
    for name in ("first", "second"):
        make_run(actor, name=name)
    make_run(stranger, name="not yours")
    assert names(browser_of(actor).get("/app/runs/")) == ["second", "first"]


def test_a_line_says_rate_interval_n_and_errored() -> None:
    actor = make_actor()
    make_run(actor, ["p"] * 7 + ["f"] * 3 + ["e"] * 2)
    line = text_of(browser_of(actor).get("/app/runs/"))
    # Wilson's interval of 7 of 10.
    assert "70.0%" in line
    assert "39.7% to 89.2%" in line
    assert "39.7% to 89.2% 10 2" in line


def test_where_nothing_passes_or_fails_the_mean_stands_for_the_run() -> None:
    actor = make_actor()
    make_run(actor, ["s", "s", "e"])
    line = text_of(browser_of(actor).get("/app/runs/"))
    assert "0.5 mean, 0.5 to 0.5 2 1" in line


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["going", "canceled", "Nightly 2", "Nightly 1"]),
        ("?state=going", ["going"]),
        ("?state=canceled", ["canceled"]),
        ("?state=completed", ["Nightly 2", "Nightly 1"]),
        ("?state=nonsense", ["going", "canceled", "Nightly 2", "Nightly 1"]),
        ("?q=nightly", ["Nightly 2", "Nightly 1"]),
        ("?q=capitals", ["canceled", "Nightly 2", "Nightly 1"]),
        ("?q=nightly+1&state=completed", ["Nightly 1"]),
        ("?q=%00", ["going", "canceled", "Nightly 2", "Nightly 1"]),
        ("?q=100%25", []),
        ("?evaluation=nonsense", ["going", "canceled", "Nightly 2", "Nightly 1"]),
        ("?after=nonsense", ["going", "canceled", "Nightly 2", "Nightly 1"]),
    ],
)
def test_the_filter_stands_in_the_url(query: str, found: list[str]) -> None:
    actor = make_actor()
    evaluation = make_evaluation(actor)
    make_run(actor, evaluation=evaluation, name="Nightly 1")
    make_run(actor, evaluation=evaluation, name="Nightly 2")
    canceled = make_run(actor, evaluation=evaluation, name="canceled", is_finished=False)
    finish_run(canceled.pk, Run.State.CANCELED)
    make_run(
        actor, evaluation=make_evaluation(actor, name="Rivers"), name="going", is_finished=False
    )
    browser = browser_of(actor)
    assert names(browser.get(f"/app/runs/{query}")) == found
    assert names(browser.get(f"/app/runs/live/{query}")) == found


def test_a_run_is_found_by_its_id_in_any_dress() -> None:
    actor = make_actor()
    run = make_run(actor)
    make_run(actor)
    browser = browser_of(actor)
    for text in (str(run.pk), run.pk.hex, f"evalrun_{run.pk.hex}", run.pk.hex.upper()):
        assert names(browser.get("/app/runs/", {"q": text})) == [run.name]
    of_evaluation = browser.get("/app/runs/", {"q": f"eval_{run.evaluation_id.hex}"})
    assert names(of_evaluation) == [run.name]


def test_the_list_narrows_to_an_evaluation() -> None:
    actor = make_actor()
    run = make_run(actor, name="this")
    make_run(actor, name="another")
    answer = browser_of(actor).get("/app/runs/", {"evaluation": run.evaluation_id})
    assert names(answer) == ["this"]


def test_the_pages_of_the_list_show_each_run_once_and_keep_the_filter() -> None:
    actor = make_actor()
    evaluation = make_evaluation(actor)
    for number in range(120):
        Run.objects.create(
            number=new_number(),
            account=actor.account,
            evaluation=evaluation,
            name=f"{number}",
            state="completed",
        )
    browser = browser_of(actor)
    seen, query = [], "?state=completed"
    while query:
        answer = browser.get(f"/app/runs/{query}")
        seen += names(answer)
        query = answer.context["page"].next
        assert not query or "state=completed" in query
    assert seen == [str(number) for number in reversed(range(120))]


def test_deleted_runs_and_runs_of_deleted_evaluations_are_gone() -> None:
    actor = make_actor()
    gone, orphan, kept = make_run(actor), make_run(actor), make_run(actor, name="kept")
    delete_run(actor, gone)
    delete_evaluation(actor, orphan.evaluation)
    browser = browser_of(actor)
    assert names(browser.get("/app/runs/")) == [kept.name]
    assert browser.get(url_of(gone)).status_code == 404
    assert browser.get(url_of(orphan)).status_code == 404


def test_an_empty_list_says_how_to_start() -> None:
    page = text_of(browser_of(make_actor()).get("/app/runs/"))
    assert 'base_url="http://testserver/v1"' in page
    assert "make demo" in page


def test_the_list_refreshes_itself_quickly_only_while_a_run_is_going() -> None:
    actor = make_actor()
    browser = browser_of(actor)
    run = make_run(actor, is_finished=False)
    assert 'data-every="700" data-live' in browser.get("/app/runs/live/").content.decode()
    finish_run(run.pk, Run.State.COMPLETED)
    assert 'data-every="5000" data-live' in browser.get("/app/runs/live/").content.decode()


def test_the_queries_of_the_list_do_not_grow_with_it(django_assert_num_queries) -> None:
    actor = make_actor()
    browser = browser_of(actor)
    make_run(actor)
    browser.get("/app/runs/")  # what never changes is kept from then on
    with django_assert_num_queries(8) as few:
        browser.get("/app/runs/")
    for _ in range(8):
        make_run(actor, ["p", "f"])
    browser.get("/app/runs/")
    with django_assert_num_queries(8):
        browser.get("/app/runs/")
    assert not any("COUNT(" in query["sql"] or "OFFSET" in query["sql"] for query in few)


def test_a_runs_page_counts_what_passed_failed_and_errored() -> None:
    actor = make_actor()
    run = make_run(actor, ["pp", "pf", "ff", "ep", "pp"], name="My run")
    answer = browser_of(actor).get(url_of(run))
    page = text_of(answer)
    assert "My run Completed" in page
    assert "n scored 4 of 5 results" in page
    assert "Passed 2 Failed 2 Errored 1" in page
    first, second = answer.context["view"].criteria
    assert (first.rate.passed, first.failed, first.errored) == (3, 1, 1)
    assert (second.rate.passed, second.failed, second.errored) == (3, 2, 0)
    assert first.mean is None, "ones and zeros have no mean beside their rate"


def test_a_graded_criterion_has_a_mean_with_its_error() -> None:
    actor = make_actor()
    run = make_run(actor, ["ps", "ps", "pp", "pf"])
    first, second = browser_of(actor).get(url_of(run)).context["view"].criteria
    assert first.mean is None
    assert second.mean is not None
    assert second.mean.value == 0.5
    assert second.mean.standard_error == pytest.approx((0.5 / 3) ** 0.5 / 2)


def test_a_failed_run_says_why() -> None:
    actor = make_actor()
    run = make_run(actor, is_finished=False)
    finish_run(run.pk, Run.State.FAILED, "invalid_row", "line 3: <b>not</b> JSON")
    page = browser_of(actor).get(url_of(run)).content.decode()
    assert "invalid_row" in page
    assert "line 3: &lt;b&gt;not&lt;/b&gt; JSON" in page


def test_the_first_error_is_told_at_once() -> None:
    actor = make_actor()
    run = make_run(actor, ["p", "e", "e"])
    assert "2 results are errored. Row 1 says: odd_answer Row 1 is odd." in text_of(
        browser_of(actor).get(url_of(run))
    )


def test_a_run_names_what_it_read() -> None:
    actor = make_actor()
    version = make_version(actor, name="Tickets")
    run = make_run(actor, ["p"] * 3, rows=version)
    page = text_of(browser_of(actor).get(url_of(run)))
    assert "Recorded answers on Tickets v1, 3 rows" in page


def test_a_run_tells_both_names_of_a_model_that_stands_for_another() -> None:
    actor = make_actor()
    run = make_run(actor, ["p"])
    judges = {"old": {"model": "old", "upstream": "new"}, "same": {"model": "same"}}
    target = {"model": "first", "upstream": "second", "judges": judges}
    Run.objects.filter(pk=run.pk).update(target=json.dumps({**run.read_target(), **target}))
    page = text_of(browser_of(actor).get(url_of(run)))
    assert "first is asked as second , old is asked as new" in page
    assert "same is asked" not in page


def test_a_going_run_refreshes_itself_and_a_final_one_no_longer() -> None:
    actor = make_actor()
    browser = browser_of(actor)
    run = make_run(actor, ["p", "f"], is_finished=False)
    live = reverse("web:run_live", args=[run.pk])
    assert "2 of 3 done" in text_of(browser.get(live))
    page = browser.get(url_of(run)).content.decode()
    assert re.search(rf'id="run" data-refresh="{live}" data-every="700" data-live', page)
    assert re.search(r'id="results"[^>]* data-live', page)
    finish_run(run.pk, Run.State.COMPLETED)
    for path in (live, reverse("web:results_live", args=[run.pk])):
        assert "data-live" not in browser.get(path).content.decode()


def test_a_run_that_waits_says_so() -> None:
    actor = make_actor()
    run = make_run(actor)
    Run.objects.filter(pk=run.pk).update(state=Run.State.QUEUED, started_at=None, finished_at=None)
    assert "Waiting for a worker" in text_of(browser_of(actor).get(url_of(run)))


def test_a_run_that_its_model_servers_hold_up_says_until_when() -> None:
    actor = make_actor()
    run = make_run(actor, is_finished=False)
    endpoint = make_endpoint(actor, "http://127.0.0.1:9/v1")
    judge = make_endpoint(actor, "http://127.0.0.1:9/judge/v1", models=("judge",))
    judges = {"judge": {"model": "judge", "endpoint": str(judge.pk)}}
    target = dump_json({"kind": "recorded", "judges": judges})
    Run.objects.filter(pk=run.pk).update(endpoint=endpoint, target=target)
    until = datetime(2100, 1, 2, 14, 3, 20, tzinfo=UTC)
    EndpointPace.objects.create(endpoint=endpoint, calls=1000, window_seconds=60.0)
    EndpointPace.objects.create(
        endpoint=judge, paused_until=until, status=429, words="answered 429: <Slow down>"
    )
    page = text_of(browser_of(actor).get(url_of(run)))
    assert "Paused by the model server until 14:03:20 UTC. answered 429: &lt;Slow down&gt;" in page
    assert "http://127.0.0.1:9/v1 takes no more than 1,000 calls in 60 seconds" in page
    finish_run(run.pk, Run.State.COMPLETED)
    assert "Paused by" not in text_of(browser_of(actor).get(url_of(run)))


def test_canceling_is_posted_and_said() -> None:
    actor = make_actor()
    browser = browser_of(actor)
    run = make_run(actor, is_finished=False)
    path = reverse("web:cancel_run", args=[run.pk])
    assert path in browser.get(url_of(run)).content.decode()
    assert browser.get(path).status_code == 405
    answer = browser.post(path, follow=True)
    assert "The run is canceled." in text_of(answer)
    run.refresh_from_db()
    assert run.state == Run.State.CANCELED


def test_what_has_ended_cannot_be_canceled_and_the_page_says_so() -> None:
    actor = make_actor()
    run = make_run(actor)
    answer = browser_of(actor).post(reverse("web:cancel_run", args=[run.pk]), follow=True)
    assert "can no longer be canceled" in text_of(answer)


def test_a_retry_leads_to_the_new_run_and_the_two_name_each_other() -> None:
    actor = make_actor()
    browser = browser_of(actor)
    run = make_run(actor, ["p", "e"], name="Original")
    answer = browser.post(reverse("web:retry_run", args=[run.pk]), follow=True)
    again = run.retries.get()
    assert answer.redirect_chain[-1][0] == url_of(again)
    assert "Retry of Original" in text_of(answer)
    assert f"Retried by {again.name} queued" in text_of(browser.get(url_of(run)))


def test_a_retry_is_offered_only_where_there_is_something_to_retry() -> None:
    actor = make_actor()
    browser = browser_of(actor)
    clean = make_run(actor, ["p", "f"])
    assert "Retry errored…" not in text_of(browser.get(url_of(clean)))
    answer = browser.post(reverse("web:retry_run", args=[clean.pk]), follow=True)
    assert "Nothing in this run is errored." in text_of(answer)
    assert clean.retries.count() == 0


@pytest.mark.parametrize("name", ["web:cancel_run", "web:retry_run"])
def test_actions_need_the_token_of_the_page(name: str) -> None:
    actor = make_actor()
    run = make_run(actor, ["e"])
    client = Client(enforce_csrf_checks=True)
    client.force_login(actor.user)
    assert client.post(reverse(name, args=[run.pk])).status_code == 403


def test_another_accounts_run_is_not_found_on_any_of_its_pages() -> None:
    run = make_run(make_actor(), is_finished=False)
    browser = browser_of(make_actor())
    for name in ("run", "run_live", "results_live", "cancel_run", "retry_run"):
        path = reverse(f"web:{name}", args=[run.pk])
        answer = browser.post(path) if name.endswith("_run") else browser.get(path)
        assert answer.status_code == 404, name
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING


def test_names_are_text() -> None:
    actor = make_actor()
    evaluation = make_evaluation(actor, name="<script>alert(1)</script>")
    run = make_run(actor, evaluation=evaluation, name="<img src=x onerror=alert(2)>")
    browser = browser_of(actor)
    for path in ("/app/runs/", url_of(run), "/app/evaluations/"):
        page = browser.get(path).content.decode()
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "&lt;script&gt;alert(1)" in page
