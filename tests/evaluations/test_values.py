"""A criterion looked at over a whole run says what its results say, one by one."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.evaluations.engine.purge import purge_runs
from apps.evaluations.models import Column, Criterion, Result, Run, key_of, row_in
from apps.evaluations.packing import Verdict, pack, pack_columns
from apps.evaluations.reports import (
    Place,
    pair_runs,
    read_criteria,
    read_values,
    rows_with,
)
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.services.regrades import regrade_run
from apps.evaluations.services.runs import delete_run
from tests.evaluations.engine.workers import work_until_idle
from tests.factories import SAME, make_actor, make_evaluation, make_run, make_version

SIMILAR = NewCriterion(
    "text_similarity",
    "similar",
    {
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.text }}",
        "metric": "fuzzy_match",
        "pass_threshold": 0.5,
    },
)


def rows(count: int) -> list[dict[str, Any]]:
    """Rows of which every fifth has no text; the text of each is nearer to the answer."""
    return [
        {
            "item": {
                "label": "x" * count,
                "n": index % 3,
                **({} if index % 5 == 4 else {"text": "x" * index + "y" * (count - index)}),
            },
            "sample": {"output_text": "x" * count},
        }
        for index in range(count)
    ]


def value_of(result: Result, position: int) -> float:
    verdict = result.read_verdicts()[position]
    return math.nan if verdict is None or verdict.value is None else verdict.value


def worked(**fields: Any) -> Run:
    actor = make_actor()
    run = make_run(actor, evaluation=make_evaluation(actor, criteria=(SAME, SIMILAR)), **fields)
    work_until_idle()
    run.refresh_from_db()
    return run


VERDICTS = st.builds(
    lambda value, passed: Verdict(value, passed),
    st.sampled_from([None, 0.0, 1.0, 0.25, -3.5]),
    st.sampled_from([True, False, None]),
)


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(VERDICTS, min_size=n, max_size=n))))
def test_columns_hold_what_rows_do(verdicts: list[list[Verdict]]) -> None:
    packed = [pack(row) for row in verdicts]
    columns = pack_columns([(one.verdicts, one.scores) for one in packed])
    for index, column in enumerate(columns):
        assert column.letters == "".join(one.verdicts[index] for one in packed)
        if column.numbers is not None:
            told = memoryview(column.numbers).cast("d").tolist()
            wanted = [row[index].value for row in verdicts]
            assert [None if math.isnan(value) else value for value in told] == wanted


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("has_columns", [True, False])
def test_values_are_those_of_the_results(has_columns: bool) -> None:
    run = worked(source=rows(11), repeats=2)
    assert Column.objects.of_run(run).count() == 2
    if not has_columns:
        Column.objects.all().delete()
    results = list(Result.objects.of_run(run).in_order())
    for criterion in read_criteria(run):
        values = read_values(run, criterion)
        assert values.keys.tolist() == [one.pk for one in results]
        wanted = [value_of(one, criterion.position) for one in results]
        assert values.numbers.tolist() == pytest.approx(wanted, nan_ok=True)
        word = "".join(map(chr, values.letters))
        assert word == "".join(one.verdicts[criterion.position] for one in results)


@pytest.mark.django_db(transaction=True)
def test_pages_by_value_hold_every_result_that_has_one_once() -> None:
    run = worked(source=rows(11), repeats=2)
    values = read_values(run, read_criteria(run)[1])
    for descending in (False, True):
        found: list[Place] = []
        while page := values.sorted_keys(
            3, after=found[-1] if found else None, descending=descending
        ):
            found += page
        there = [Place(value_of(one, 1), one.pk) for one in Result.objects.of_run(run)]
        there = [place for place in there if not math.isnan(place.value)]
        sign = -1 if descending else 1
        assert found == sorted(there, key=lambda place: (sign * place.value, place.key))
    bounded = values.sorted_keys(100, low=0.5, high=0.8)
    assert bounded == [place for place in sorted(there) if 0.5 <= place.value <= 0.8]


@pytest.mark.django_db(transaction=True)
def test_a_histogram_counts_each_value_once() -> None:
    run = worked(source=rows(10))
    similar = read_values(run, read_criteria(run)[1])
    assert similar.histogram([0, 0.3, 0.6, 1]) == [3, 2, 3]
    assert [row_in(key) for key in similar.with_letters("e")] == [4, 9]


@pytest.mark.django_db(transaction=True)
def test_runs_over_the_same_rows_are_paired_row_by_row() -> None:
    run = worked(source=rows(10))
    actor = make_actor(account=run.account)
    again = regrade_run(actor, run)
    work_until_idle()
    criterion = read_criteria(run)[1]
    pairs = pair_runs((run, criterion), (again, criterion))
    assert pairs.rows.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert pairs.first.tolist() == pairs.second.tolist()


@pytest.mark.django_db(transaction=True)
def test_runs_over_other_rows_are_paired_by_what_the_items_say() -> None:
    actor = make_actor()
    evaluation = make_evaluation(actor, criteria=(SIMILAR,))
    some = rows(10)
    # The other run has them in another order, with keys in another order, one of them twice, and
    # one that the first has not.
    others = [{**row, "item": dict(reversed(row["item"].items()))} for row in (some * 2)[6:14]]
    others = [*others, some[6], {**some[0], "item": {"text": "z", "label": "", "n": 0}}]
    runs = [make_run(actor, evaluation=evaluation, source=source) for source in (some, others)]
    work_until_idle()
    criterion: Criterion = read_criteria(runs[0])[0]
    pairs = pair_runs((runs[0], criterion), (runs[1], criterion))
    assert pairs.rows.tolist() == [0, 1, 2, 3, 6, 7, 8]
    assert pairs.first.tolist() == pairs.second.tolist()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("from_version", [True, False])
def test_rows_are_found_by_a_field_of_their_item(from_version: bool) -> None:
    actor = make_actor()
    items = [
        {"n": index % 3, "a": {"b": ["é\n", "x"][index % 2]}, "c": index == 4} for index in range(7)
    ]
    source: Any = [{"item": item} for item in items]
    if from_version:
        source = make_version(actor, items=items)
    run = make_run(
        actor, evaluation=make_evaluation(actor, has_sample=False, criteria=()), source=source
    )
    work_until_idle()
    assert rows_with(run, ["n"], 1, limit=9) == [1, 4]
    assert rows_with(run, ["n"], 1.0, limit=1) == [1]
    assert rows_with(run, ["n"], 1, first=2, limit=9) == [4]
    assert rows_with(run, ["a", "b"], "é\n", limit=9) == [0, 2, 4, 6]
    assert rows_with(run, ["a"], {"b": "x"}, limit=9) == [1, 3, 5]
    assert rows_with(run, ["c"], True, limit=9) == [4]
    assert rows_with(run, ["n"], True, limit=9) == []
    assert rows_with(run, ["a", "d"], None, limit=9) == []


@pytest.mark.django_db(transaction=True)
def test_the_columns_go_with_the_run() -> None:
    run = worked(source=rows(5))
    other = worked(source=rows(5))
    delete_run(make_actor(account=run.account), run)
    purge_runs()
    assert not Column.objects.of_run(run).exists()
    assert Column.objects.of_run(other).count() == 2
    assert key_of(other.number, 0) <= Column.objects.get(pk=Column.objects.all()[0].pk).pk
