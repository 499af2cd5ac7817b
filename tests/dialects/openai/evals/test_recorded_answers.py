"""A recorded set of answers reads as it did before results were one row each, by every face.

recorded_answers.json holds the rows with what their output items said then: of each criterion its
score, verdict and error code.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from apps.evaluations.exports import rows as exported
from apps.evaluations.models import Run
from apps.evaluations.reports import read_criteria, read_values, summary
from tests.dialects.openai.caller import EVAL, Caller, run_body, work

RECORDED = json.loads(Path(__file__).with_name("recorded_answers.json").read_text("utf-8"))
NEAR = 1e-9


@pytest.mark.django_db(transaction=True)
def test_recorded_answers_read_as_they_did() -> None:
    caller = Caller()
    config = {**EVAL["data_source_config"], "item_schema": {"type": "object"}}
    created = caller.new_eval(data_source_config=config, testing_criteria=RECORDED["criteria"])
    rows = [{"item": row["item"], "sample": row["sample"]} for row in RECORDED["rows"]]
    started = caller.new_run(created["id"], run_body(rows))
    work()
    _, shown = caller.get(f"/evals/{created['id']}/runs/{started['id']}/output_items", limit=100)
    assert [item["status"] for item in shown["data"]] == [row["status"] for row in RECORDED["rows"]]
    for item, row in zip(shown["data"], RECORDED["rows"], strict=True):
        assert (item["datasource_item"], len(item["results"])) == (row["item"], len(row["results"]))
        for result, (score, passed, code) in zip(item["results"], row["results"], strict=True):
            assert result["score"] == pytest.approx(score, abs=NEAR)
            assert (result["passed"], (result.get("error") or {}).get("code")) == (passed, code)
    _other_faces_agree(Run.objects.get())


def _other_faces_agree(run: Run) -> None:
    lines = list(exported(run))
    for index, sums in enumerate(summary(run).criteria):
        name = sums.criterion.name
        kept: list[Any] = [row["results"][index] for row in RECORDED["rows"]]
        scores = [None if code else score for score, _, code in kept]
        assert [line[f"{name}.score"] for line in lines] == [
            None if score is None else pytest.approx(score, abs=NEAR) for score in scores
        ]
        there = [score for score in scores if score is not None]
        assert (sums.scored, sums.passed) == (len(there), sum(passed for _, passed, _ in kept))
        assert sums.total == pytest.approx(sum(there))
        values = read_values(run, read_criteria(run)[index])
        assert values.numbers.tolist() == pytest.approx(
            [float("nan") if score is None else score for score in scores], nan_ok=True
        )
