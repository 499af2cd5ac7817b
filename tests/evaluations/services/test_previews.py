"""Criteria are tried on a few rows, and nothing is stored."""

import pytest

from apps.errors import LimitError, Refusal, dotted
from apps.evaluations.models import Result, Run
from apps.evaluations.services import quick_judging
from apps.evaluations.services.evaluations import NewCriterion
from apps.evaluations.services.previews import ROWS, try_criteria, usage_of
from apps.inference.models import EndpointSlot
from tests.evaluations.engine.plain_runs import labels
from tests.evaluations.engine.workers import work_until_idle
from tests.factories import (
    SAME,
    ask,
    make_actor,
    make_endpoint,
    make_evaluation,
    make_rows,
    make_run,
    make_version,
)

LOOSE = NewCriterion("string_check", "loose", {**SAME.settings, "operation": "like"})
JUDGE = 'answer:{"steps": [], "result": "good"}'


@pytest.fixture
def actor(db):
    return make_actor()


@pytest.fixture
def evaluation(actor):
    return make_evaluation(actor)


@pytest.mark.django_db(transaction=True)
def test_criteria_are_tried_on_rows_and_nothing_is_stored(actor, evaluation):
    tried = try_criteria(actor, evaluation, criteria=[SAME, LOOSE], source=make_rows(4), count=3)
    assert [one.outcome.state for one in tried] == ["failed", "passed", "passed"]
    assert [one.mark.passed for one in tried[0].outcome.judged] == [False, False]
    assert "label x" in tried[0].outcome.judged[0].mark.evidence
    assert not Run.objects.exists()
    assert evaluation.criteria.count() == 1


@pytest.mark.django_db(transaction=True)
def test_criteria_are_tried_on_what_a_run_was_answered(actor):
    run = make_run(actor, source=5, target=ask(), repeats=2)
    work_until_idle()
    stored = Result.objects.count()
    tried = try_criteria(actor, run.evaluation, criteria=[SAME], source=run, count=3)
    assert [one.row.index for one in tried] == [0, 0, 1]
    assert [one.outcome.state for one in tried] == ["passed"] * 3
    assert tried[2].answer.sample["output_text"] == "label 1"
    assert Result.objects.count() == stored


@pytest.mark.django_db(transaction=True)
def test_criteria_are_tried_on_a_dataset_and_judges_are_asked(actor, server):
    make_endpoint(actor, server.base_url, models=[JUDGE])
    judge = labels(JUDGE)
    judge = NewCriterion(
        judge.kind,
        judge.name,
        {**judge.settings, "input": [{"role": "user", "content": "Judge {{ item.text }}"}]},
    )
    evaluation = make_evaluation(actor)
    tried = try_criteria(actor, evaluation, criteria=[judge], source=make_version(actor))
    assert [one.outcome.state for one in tried] == ["passed"] * 3
    [(model, counts)] = usage_of(tried).items()
    assert (model, counts[0]) == (JUDGE, 3)
    assert counts[1] > 0
    assert not EndpointSlot.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_judging_that_takes_too_long_is_given_up(actor, server, monkeypatch):
    make_endpoint(actor, server.base_url, models=["slow:5"])
    monkeypatch.setattr(quick_judging, "SECONDS", 0.2)
    with pytest.raises(LimitError, match="try fewer rows"):
        try_criteria(
            actor, make_evaluation(actor), criteria=[labels("slow:5")], source=make_rows(2)
        )
    assert not EndpointSlot.objects.exists()


@pytest.mark.parametrize(
    ("source", "count", "path"),
    [
        ([], 5, "rows"),
        ([{"item": 1}], 5, "rows[0]"),
        ([{"item": {}}, {"items": {}}], 5, "rows[1]"),
        (make_rows(1), 0, "count"),
        (make_rows(1), ROWS + 1, "count"),
    ],
)
def test_rows_that_cannot_be_tried_are_refused(actor, evaluation, source, count, path):
    with pytest.raises(Refusal) as refusal:
        try_criteria(actor, evaluation, criteria=[SAME], source=source, count=count)
    assert dotted(refusal.value.problems[0].path) == path
