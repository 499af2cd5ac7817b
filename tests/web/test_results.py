"""The results of a run: narrowed down, paged, and each with all there is of it."""

import pytest
from django.urls import reverse

from apps.evaluations.engine import plan
from apps.evaluations.models import Result, Run, key_of
from apps.strict_json import dump_json
from tests.factories import make_actor
from tests.judgements import change_verdicts
from tests.web.pages import text_of, url_of
from tests.web.worked import browser_of, make_evaluation, make_run, rows_of

pytestmark = pytest.mark.django_db


def rows(answer) -> list[int]:
    return [line.result.row_index for line in answer.context["lines"]]


def result_url(run: Run, row: int, query: str = "") -> str:
    result = Result.objects.of_run(run).get(row_index=row)
    return reverse("web:result", args=[run.pk, result.shown_id]) + query


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("?state=passed", [0]),
        ("?state=failed", [1, 3]),
        ("?state=errored", [2, 4]),
        ("?state=unjudged", []),
        ("?state=nonsense", [0, 1, 2, 3, 4]),
        ("?criterion=1", [0, 1, 2, 3, 4]),
        ("?state=failed&criterion=1", [3]),
        ("?state=failed&criterion=2", [1, 2]),
        ("?state=errored&criterion=1", [2, 4]),
        ("?state=passed&criterion=2", [0, 3, 4]),
        ("?state=errored&criterion=2", []),
        ("?state=failed&criterion=3", [1, 3]),
        ("?state=failed&criterion=0", [1, 3]),
        ("?state=failed&criterion=x", [1, 3]),
        ("?row=2", [2, 3, 4]),
        ("?row=0", [0, 1, 2, 3, 4]),
        ("?row=x", [0, 1, 2, 3, 4]),
        ("?row=99", []),
        (f"?row={'9' * 30}", [0, 1, 2, 3, 4]),
    ],
)
def test_the_filter_stands_in_the_url(query: str, found: list[int]) -> None:
    actor = make_actor()
    run = make_run(actor, ["pp", "pf", "ef", "fp", "ep"])
    browser = browser_of(actor)
    for path in (url_of(run), reverse("web:results_live", args=[run.pk])):
        assert rows(browser.get(path + query)) == found


def test_the_tabs_count_what_they_lead_to() -> None:
    actor = make_actor()
    run = make_run(actor, ["pp", "pf", "ef", "fp", "ep"])
    browser = browser_of(actor)
    for query in ("", "?state=failed&criterion=1", "?state=failed&criterion=2"):
        for tab in browser.get(url_of(run) + query).context["tabs"]:
            assert len(rows(browser.get(url_of(run) + tab.query))) == tab.count, tab


@pytest.fixture
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "GRADING_ROWS", 10)


@pytest.mark.usefixtures("_small_shards")
@pytest.mark.parametrize("criterion", [1, 2])
def test_a_verdict_is_found_across_shards_in_both_directions(criterion: int) -> None:
    actor = make_actor()
    marks = [("p" if n % 7 else "f") + ("f" if n in {3, 41} else "p") for n in range(45)]
    run = make_run(actor, marks)
    assert run.shards.count() == 5
    wanted = [n for n, letters in enumerate(marks) if letters[criterion - 1] == "f"]
    query = f"?state=failed&criterion={criterion}"
    browser = browser_of(actor)
    assert rows(browser.get(url_of(run) + query)) == wanted
    for word, expected in (("next", wanted), ("previous", wanted[::-1])):
        seen, path = [], result_url(run, expected[0], query)
        while path:
            answer = browser.get(path)
            seen.append(answer.context["result"].row_index)
            path = answer.context[word]
        assert seen == expected


@pytest.mark.usefixtures("_small_shards")
def test_shards_without_such_a_verdict_are_not_searched(django_assert_max_num_queries) -> None:
    actor = make_actor()
    run = make_run(actor, ["p"] * 44 + ["f"])
    browser = browser_of(actor)
    path = url_of(run) + "?state=failed&criterion=1"
    with django_assert_max_num_queries(15) as asked:
        assert rows(browser.get(path)) == [44]
    sql = [query["sql"] for query in asked]
    searches = [one for one in sql if "SUBSTR" in one and "evaluations_result" in one]
    assert len(searches) == 1
    assert f'"id" >= {key_of(run.number, 40)}' in searches[0]


@pytest.mark.usefixtures("_small_shards")
@pytest.mark.parametrize("query", ["", "?state=failed", "?state=failed&criterion=1"])
def test_the_pages_of_results_show_each_row_once(query: str) -> None:
    actor = make_actor()
    run = make_run(actor, ["f" if n % 4 else "p" for n in range(160)])
    wanted = [n for n in range(160) if n % 4 or not query]
    browser = browser_of(actor)
    seen, links = [], query
    while True:
        answer = browser.get(url_of(run) + links)
        seen += rows(answer)
        links = answer.context["results"].next
        if not links:
            break
    assert seen == wanted
    back = browser.get(url_of(run) + answer.context["results"].previous)
    assert rows(back) == wanted[-len(rows(answer)) - 50 : -len(rows(answer))]


def test_going_to_a_row_is_not_undone_by_the_next_page() -> None:
    actor = make_actor()
    run = make_run(actor, ["p"] * 130)
    answer = browser_of(actor).get(url_of(run) + "?row=20")
    assert rows(answer)[0] == 20
    assert "row=" not in answer.context["results"].next
    assert "row=" not in answer.context["results"].previous


def test_the_queries_of_a_runs_page_do_not_grow_with_its_rows(django_assert_num_queries) -> None:
    actor = make_actor()
    browser = browser_of(actor)
    few, many = make_run(actor, ["pf", "fe"]), make_run(actor, ["pf", "fe"] * 60)
    for run in (few, many):
        browser.get(url_of(run))  # what never changes is kept from then on
        with django_assert_num_queries(12) as asked:
            browser.get(url_of(run))
        sql = [query["sql"] for query in asked]
        assert not any("OFFSET" in text for text in sql)
        assert not any("COUNT(" in text for text in sql)
        assert not any("SUM(" in text and "result" in text for text in sql)


def test_a_line_shows_input_answer_reference_and_each_verdict() -> None:
    actor = make_actor()
    run = make_run(actor, ["pfs"])
    table = text_of(browser_of(actor).get(reverse("web:results_live", args=[run.pk])))
    assert "Country 0 Answer 0 Capital 0 passed failed unjudged 0.5" in table


def test_an_item_is_text_wherever_it_is_shown() -> None:
    actor = make_actor()
    evil = "</pre><script>alert('item')</script>"
    row = {"item": {evil: evil, "capital": evil}, "sample": {"output_text": evil}}
    run = make_run(actor, ["f"], rows=[row])
    change_verdicts(run, evidence=evil)
    Result.objects.of_run(run).update(
        exchange=dump_json({"input": [{"role": evil, "content": evil}]})
    )
    browser = browser_of(actor)
    for path in (url_of(run), result_url(run, 0)):
        page = browser.get(path).content.decode()
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(&#x27;item&#x27;)" in page


def test_a_result_shows_the_item_the_answer_and_every_verdict() -> None:
    actor = make_actor()
    run = make_run(actor, ["pfe"])
    answer = browser_of(actor).get(result_url(run, 0))
    page = text_of(answer)
    assert "Row 0 Errored" in page
    assert "&quot;country&quot;: &quot;Country 0&quot;" in page
    assert "Answer 0" in page
    assert "expected Capital 0" in page
    assert "Passed same 1 string_check 1 evidence of row 0" in page
    assert "Failed same 2 string_check 0 evidence of row 0" in page
    assert "Errored same 3 string_check odd_answer Row 0 is odd." in page
    assert "reference {{ item.capital }} Capital 0" in page


def test_a_score_without_a_verdict_is_called_a_score() -> None:
    actor = make_actor()
    run = make_run(actor, ["s"])
    page = text_of(browser_of(actor).get(result_url(run, 0)))
    assert "Scored same 1 string_check 0.5" in page


def test_a_result_shows_what_was_asked_and_what_it_took() -> None:
    actor = make_actor()
    run = make_run(actor, ["p"])
    Run.objects.filter(pk=run.pk).update(model="gpt-mini")
    messages = [
        {"role": "system", "content": "Answer briefly."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "https://evil.example/pixel.png"}},
            ],
        },
    ]
    usage = {"prompt_tokens": 1200, "completion_tokens": 30, "total_tokens": 1230}
    exchange = {"input": messages, "usage": usage, "calls": 2, "seconds": 1.5}
    sample = {
        "model": "gpt-mini-2026",
        "choices": [
            {"message": {"content": None, "tool_calls": [{"function": {"name": "look_up"}}]}}
        ],
    }
    Result.objects.of_run(run).update(exchange=dump_json(exchange), sample=dump_json(sample))
    answer = browser_of(actor).get(result_url(run, 0))
    page = text_of(answer).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "gpt-mini-2026 · 1.5 s · 2 calls · 1,200 + 30 tokens" in page
    assert "system Answer briefly. user What is this?" in page
    assert "look_up" in page
    # To load it would tell its host who looks at what.
    assert "https://evil.example/pixel.png" in page
    assert "<img" not in answer.content.decode().partition("<main")[2]


def test_a_result_that_could_not_be_answered_says_why() -> None:
    actor = make_actor()
    run = make_run(actor, ["e"], rows=[{"item": {"capital": "Paris"}}])
    Result.objects.of_run(run).update(error_code="model_timeout", error_message="After 120 s.")
    browser = browser_of(actor)
    page = text_of(browser.get(result_url(run, 0)))
    assert "model_timeout After 120 s." in page
    assert "There is no answer." in page
    assert "model_timeout After 120 s." in text_of(browser.get(url_of(run)))


def test_a_verdict_says_why_it_has_no_score_or_a_score_of_0() -> None:
    actor = make_actor()
    run = make_run(actor, ["f"])
    reason = {"error_code": "odd_program", "error_message": "ValueError: <told> you"}
    for value, passed in ((0.0, False), (None, None)):
        change_verdicts(run, value=value, passed=passed, **reason)
        shown = browser_of(actor).get(result_url(run, 0)).content.decode()
        assert "<strong>odd_program</strong> ValueError: &lt;told&gt; you" in shown


def test_a_judges_exchange_is_shown() -> None:
    actor = make_actor()
    run = make_run(actor, ["f"])
    exchange = {
        "input": [{"role": "user", "content": "Is this good?"}],
        "choices": [{"message": {"role": "assistant", "content": "No, it is late."}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
    }
    change_verdicts(run, exchange=exchange)
    page = text_of(browser_of(actor).get(result_url(run, 0)))
    assert "What the judge was asked and replied (5 + 6 tokens)" in page
    assert "user Is this good? reply No, it is late." in page


def test_neighbours_stay_in_the_filter_and_lead_back_to_the_row() -> None:
    actor = make_actor()
    run = make_run(actor, ["f", "p", "f", "p", "f"])
    answer = browser_of(actor).get(result_url(run, 2, "?state=failed"))
    assert answer.context["previous"] == result_url(run, 0, "?state=failed")
    assert answer.context["next"] == result_url(run, 4, "?state=failed")
    assert answer.context["list_url"] == url_of(run) + "?state=failed&row=2#results"
    assert "among those failed" in text_of(answer)


def test_a_very_long_text_is_cut_and_the_page_says_so() -> None:
    actor = make_actor()
    row = {"item": {"capital": "x"}, "sample": {"output_text": "y" * 150_000}}
    run = make_run(actor, ["f"], rows=[row])
    browser = browser_of(actor)
    assert "50,000 more characters are not shown." in text_of(browser.get(result_url(run, 0)))
    assert len(browser.get(url_of(run)).content) < 50_000


def test_a_result_is_found_only_in_its_own_run_and_account() -> None:
    actor, stranger = make_actor(), make_actor()
    run, other = make_run(actor), make_run(actor)
    result = Result.objects.of_run(other).first()
    browser = browser_of(actor)
    assert browser.get(reverse("web:result", args=[run.pk, result.shown_id])).status_code == 404
    assert browser_of(stranger).get(result_url(run, 0)).status_code == 404


def test_a_run_without_criteria_or_rows_has_a_page() -> None:
    actor = make_actor()
    evaluation = make_evaluation(actor, criteria=0)
    browser = browser_of(actor)
    run = make_run(actor, [""], evaluation=evaluation, rows=rows_of([""]))
    assert rows(browser.get(url_of(run))) == [0]
    assert "This evaluation has no criteria." in text_of(browser.get(result_url(run, 0)))


def test_a_result_tells_both_names_of_a_model_that_stands_for_another() -> None:
    actor = make_actor()
    run = make_run(actor, ["p"])
    target = {**run.read_target(), "model": "first", "upstream": "second"}
    target["judges"] = {"old": {"model": "old", "upstream": "new"}, "same": {"model": "same"}}
    Run.objects.filter(pk=run.pk).update(target=dump_json(target))
    page = text_of(browser_of(actor).get(result_url(run, 0)))
    assert "first is asked as second , old is asked as new" in page
    assert "same is asked" not in page
