"""regrade_run: grade stored answers again from the command line."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from apps.evaluations.models import Run
from tests.evaluations.engine.workers import work_until_idle
from tests.factories import SAME, make_account, make_actor, make_run

pytestmark = pytest.mark.django_db(transaction=True)

LOOSE = {"type": "string_check", "name": "loose", **SAME.settings, "operation": "like"}


@pytest.fixture
def run():
    run = make_run(make_actor())
    work_until_idle()
    run.refresh_from_db()
    return run


def regrade(*arguments: str) -> str:
    out = StringIO()
    call_command("regrade_run", *arguments, stdout=out)
    return out.getvalue()


def save(folder, criteria) -> str:
    path = folder / "criteria.json"
    path.write_text(json.dumps(criteria))
    return str(path)


def test_a_run_is_graded_again_by_criteria_in_a_file(run, tmp_path):
    told = regrade(str(run.pk), "--criteria", save(tmp_path, [LOOSE]))
    new = Run.objects.get(answers_of=run)
    assert told == f"evalrun_{run.pk.hex} is graded again as evalrun_{new.pk.hex}.\n"
    assert new.criteria_version == 2


def test_the_run_is_also_found_by_the_id_of_the_api(run):
    regrade(f"evalrun_{run.pk.hex}", "--account", run.account.name)
    assert Run.objects.get(answers_of=run).criteria_version == 1


def test_with_wait_it_tells_how_many_verdicts_differ(run, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "evalplatform.management.commands.regrade_run.time.sleep", lambda _: work_until_idle()
    )
    never = {**LOOSE, "operation": "eq", "reference": "never"}
    told = regrade(str(run.pk), "--wait", "--criteria", save(tmp_path, [never]))
    assert told.endswith("is completed: 4 of 6 verdicts differ.\n")


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ({}, "criteria: Criteria are an array of objects."),
        ([{**LOOSE, "operation": "near"}], "criteria[0].operation: operation must be one of"),
        ([LOOSE, "x"], "criteria[1]: A criterion is an object."),
        ([{"type": "string_check"}], "criteria[0].name: name must be a text"),
        ([{**LOOSE, "input": "{{ answer }}"}], "criteria[0].input"),
        ([], "criteria: There is no criterion"),
    ],
)
def test_criteria_that_cannot_be_used_are_refused_with_their_place(
    run, tmp_path, criteria, message
):
    with pytest.raises(CommandError) as refusal:
        regrade(str(run.pk), "--criteria", save(tmp_path, criteria))
    assert str(refusal.value).startswith(message)
    assert Run.objects.count() == 1


def test_what_is_no_file_or_no_json_is_refused(run, tmp_path):
    (tmp_path / "odd").write_text("[")
    for path, message in ((tmp_path / "none", "No such file"), (tmp_path / "odd", "not JSON")):
        with pytest.raises(CommandError, match=message):
            regrade(str(run.pk), "--criteria", str(path))


def test_a_run_that_is_going_or_of_another_account_is_refused(run):
    with pytest.raises(CommandError, match="still going"):
        regrade(str(make_run(make_actor()).pk))
    with pytest.raises(CommandError, match="There is no run"):
        regrade(str(run.pk), "--account", make_account().name)
