"""Pages by keyset: every row on one page, wherever one begins and in whichever direction."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import pytest
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from apps.evaluations.models import Result, Run, new_number
from evalplatform.web.paging import Order, finder, newest_first, page_of, with_query
from tests.factories import make_actor
from tests.web.worked import make_evaluation

RUNS = newest_first(Run)
RESULTS = Order(Result, ("id",))


@given(st.integers(0, 10**16), st.uuids())
def test_a_place_is_read_as_it_was_written(microseconds: int, pk: object) -> None:
    created_at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    assert RUNS.read(RUNS.write((created_at, pk))) == (created_at, pk)


@given(st.integers(0, 2**63 - 1))
def test_a_key_is_read_as_it_was_written(key: int) -> None:
    assert RESULTS.read(RESULTS.write((key,))) == (key,)


@given(st.text())
def test_any_other_text_is_no_place(text: str) -> None:
    found = RUNS.read(text)
    assert found is None or RUNS.read(RUNS.write(found)) == found


@pytest.mark.parametrize("text", ["", "1.2", "x", "-1", f"{2**63}", "9" * 5000])
def test_a_bad_place_is_none(text: str) -> None:
    assert RESULTS.read(text) is None


def test_a_query_keeps_what_is_not_changed() -> None:
    query = QueryDict("state=failed&q=a%26b&after=1")
    assert with_query(query, after=None, row="7") == "?state=failed&q=a%26b&row=7"


@pytest.fixture
def runs(db: None) -> list[Run]:
    """Make twelve runs, newest first; three at a time were created in the same microsecond."""
    actor = make_actor()
    evaluation = make_evaluation(actor)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    made = [
        Run.objects.create(
            number=new_number(),
            account=actor.account,
            evaluation=evaluation,
            name=f"run {n}",
            created_at=begin + timedelta(seconds=n // 3),
        )
        for n in range(12)
    ]
    return sorted(made, key=lambda run: (run.created_at, run.pk), reverse=True)


def walk(query: str, word: str, size: int) -> list[list[Run]]:
    """Collect the pages from this one on, along the links."""
    pages = []
    while True:
        page = page_of(finder(Run.objects.all(), RUNS), RUNS, QueryDict(query), size=size)
        pages.append(list(page.rows))
        link = getattr(page, word)
        if not link:
            return pages
        assert len(pages) < 20
        query = link.removeprefix("?")


@pytest.mark.parametrize("size", [1, 2, 4, 5, 12, 50])
def test_the_links_lead_over_each_row_once(runs: list[Run], size: int) -> None:
    pages = walk("", "next", size)
    assert [run for page in pages for run in page] == runs
    assert all(len(page) == size for page in pages[:-1])


@pytest.mark.parametrize("size", [1, 2, 4, 5, 12, 50])
def test_the_links_lead_back_to_a_full_first_page(runs: list[Run], size: int) -> None:
    last = runs[-1]
    back = walk(f"before={RUNS.write((last.created_at, last.pk))}", "previous", size)
    assert back[-1] == runs[:size]
    seen = [run for page in reversed(back) for run in page]
    assert [run for n, run in enumerate(seen) if run not in seen[:n]] == runs[: len(set(seen))]
    assert set(runs[:-1]) <= set(seen)


def test_a_row_that_comes_meanwhile_moves_no_other(runs: list[Run]) -> None:
    first = page_of(finder(Run.objects.all(), RUNS), RUNS, QueryDict(""), size=5)
    Run.objects.create(
        number=new_number(), account=runs[0].account, evaluation=runs[0].evaluation, name="newer"
    )
    query = QueryDict(first.next.removeprefix("?"))
    second = page_of(finder(Run.objects.all(), RUNS), RUNS, query, size=5)
    assert list(second.rows) == runs[5:10]


def test_a_link_drops_the_place_it_replaces(runs: list[Run]) -> None:
    page = page_of(finder(Run.objects.all(), RUNS), RUNS, QueryDict("q=run&before=1.x"), size=5)
    words = dict(parse_qsl(page.next.removeprefix("?")))
    assert set(words) == {"q", "after"}


def test_beyond_the_last_row_one_can_go_back(runs: list[Run]) -> None:
    query = QueryDict(f"q=run&after={RUNS.write((runs[-1].created_at, runs[-1].pk))}")
    page = page_of(finder(Run.objects.all(), RUNS), RUNS, query, size=5)
    assert (list(page.rows), page.previous, page.next) == ([], "?q=run", "")
