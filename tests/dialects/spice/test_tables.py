"""The vendor's two tables of what evals gave, through the command that exports them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from django.core.management import CommandError, call_command

from apps.accounts.models import Actor
from apps.evaluations.engine.worker import Worker
from apps.evaluations.models import Run
from apps.evaluations.services.named_runs import name_evaluation, start_run_by_name
from tests.factories import make_actor, make_run, make_version

pytestmark = pytest.mark.django_db(transaction=True)

MESSAGES = [{"role": "user", "content": "kitten"}]
ROWS = ({"input": "Tokyo", "ideal": "Tokyo"}, {"input": MESSAGES, "ideal": None})


def have_runs(actor: Actor) -> tuple[Run, Run]:
    """Make a run of an eval that completes, and one of an eval that fails."""
    make_version(actor, items=ROWS, name="trivia")
    runs = []
    for name, scorers in (("good", ["match", "levenshtein"]), ("bad", ["nonsense"])):
        evaluation = name_evaluation(actor, call_name=name, dataset_name="trivia", scorers=scorers)
        runs.append(start_run_by_name(actor, evaluation, model="builtin/echo"))
    Worker().run()
    return runs[0], runs[1]


def exported(actor: Actor, table: str, *arguments: str) -> str:
    out = io.StringIO()
    assert actor.account is not None
    call_command("export_evals", table, "--account", actor.account.name, *arguments, stdout=out)
    return out.getvalue()


def records(actor: Actor, table: str, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in exported(actor, table, *arguments).splitlines()]


def test_a_run_is_a_record_as_the_vendors_program_kept_it():
    actor = make_actor()
    good, bad = have_runs(actor)
    make_run(actor)  # of an eval without a name
    have_runs(make_actor())
    good.refresh_from_db()
    first, second = records(actor, "runs")
    assert first == {
        "id": good.pk.hex,
        "created_at": f"{good.created_at:%Y-%m-%dT%H:%M:%S}",
        "completed_at": f"{good.finished_at:%Y-%m-%dT%H:%M:%S}",
        "dataset": "trivia",
        "model": "builtin/echo",
        "status": "Completed",
        "error_message": None,
        "scorers": ["match", "levenshtein"],
        "metrics": {"match/mean": 0.5, "levenshtein/mean": 0.5},
    }
    assert (second["id"], second["status"], second["metrics"]) == (bad.pk.hex, "Failed", {})
    assert second["completed_at"] is None
    assert "nonsense" in second["error_message"]


def test_a_result_is_a_record_for_each_scorer():
    actor = make_actor()
    good, _ = have_runs(actor)
    found = records(actor, "results")
    facts = [{key: row[key] for key in row if key != "created_at"} for row in found]
    asked = [
        {"input": "Tokyo", "actual": "Tokyo", "expected": "Tokyo"},
        {"input": json.dumps(MESSAGES, separators=(",", ":")), "actual": "kitten", "expected": ""},
    ]
    assert facts == [
        {"run_id": good.pk.hex, **row, "scorer": scorer, "value": value}
        for row, value in zip(asked, (1.0, 0.0), strict=True)
        for scorer in ("match", "levenshtein")
    ]


def test_one_evals_records_are_had_alone():
    actor = make_actor()
    _, bad = have_runs(actor)
    assert [row["id"] for row in records(actor, "runs", "--eval", "bad")] == [bad.pk.hex]
    assert records(actor, "results", "--eval", "bad") == []
    with pytest.raises(CommandError, match="eval 'none' not found"):
        exported(actor, "runs", "--eval", "none")


def test_the_three_formats_hold_the_same(tmp_path: Path):
    actor = make_actor()
    have_runs(actor)
    for table in ("runs", "results"):
        wanted = records(actor, table)
        in_csv = csv.DictReader(io.StringIO(exported(actor, table, "--format", "csv"), newline=""))
        path = tmp_path / f"{table}.parquet"
        exported(actor, table, "--format", "parquet", "--output", str(path))
        in_parquet = pyarrow.parquet.read_table(path).to_pylist()
        for record, row, stored in zip(wanted, in_csv, in_parquet, strict=True):
            for column, value in record.items():
                is_text = value is None or isinstance(value, str)
                assert (row[column] if is_text else json.loads(row[column])) == (
                    "" if value is None else value
                )
                pairs = column == "metrics"
                assert (dict(stored[column]) if pairs else stored[column]) == value
    with pytest.raises(CommandError, match="standard output"):
        exported(actor, "runs", "--format", "parquet")
