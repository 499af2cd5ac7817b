"""A result that was made elsewhere counts as others do, and what it was before is kept."""

import pytest

from apps.errors import Invalid, StateError, Unfit
from apps.evaluations.engine.purge import purge_runs
from apps.evaluations.models import Column, Result, ResultVersion, Run, row_in
from apps.evaluations.packing import Verdict
from apps.evaluations.reports import (
    Wanted,
    read_criteria,
    read_items,
    read_values,
    read_versions,
    summary,
)
from apps.evaluations.services.pushed_results import put_result
from apps.evaluations.services.runs import delete_run
from tests.evaluations.engine.soundness import check_run
from tests.evaluations.engine.workers import work_until_idle
from tests.factories import make_actor, make_run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run() -> Run:
    """Six rows, of which the first and the fourth have failed."""
    run = make_run()
    work_until_idle()
    run.refresh_from_db()
    return run


def test_a_changed_result_keeps_its_id_and_its_history(run: Run) -> None:
    actor = make_actor(account=run.account)
    old = Result.objects.of_run(run).in_order()[0]
    assert old.state == Result.State.FAILED
    better = {"output_text": "label 0"}
    put_result(actor, run, 0, verdicts=[Verdict(1.0, True)], sample=better)
    put_result(actor, run, 0, verdicts=[Verdict(0.25, False)], sample=better)
    now = Result.objects.get(pk=old.pk)
    versions = read_versions(now)
    assert [one.shown_id for one in versions] == [old.shown_id] * 3
    assert [one.state for one in versions] == ["failed", "passed", "failed"]
    first, second, third = read_items(run, versions)
    assert [one.verdicts[read_criteria(run)[0].pk].value for one in (first, second, third)] == [
        *(0.0, 1.0, 0.25),
    ]
    assert (first.sample or {})["output_text"] == "label x"
    assert third.sample == better


def test_counts_sums_and_columns_follow(run: Run) -> None:
    actor = make_actor(account=run.account)
    put_result(actor, run, 0, verdicts=[Verdict(1.0, True)])
    put_result(actor, run, 3, verdicts=[Verdict(None, None, "odd", "It is odd.")])
    run.refresh_from_db()
    check_run(run)
    counts = summary(run).counts
    assert (counts.passed, counts.failed, counts.errored) == (5, 0, 1)
    (criterion,) = read_criteria(run)
    assert Column.objects.of_run(run).exists()
    assert [row_in(key) for key in read_values(run, criterion).with_letters("e")] == [3]
    found = Wanted(run, criterion, "passed").find(None, backwards=False, limit=9)
    assert [one.row_index for one in found] == [0, 1, 2, 4, 5]


def test_what_does_not_fit_the_run_is_refused(run: Run) -> None:
    actor = make_actor(account=run.account)
    good = [Verdict(1.0, True)]
    with pytest.raises(Unfit, match="no row 6"):
        put_result(actor, run, 6, verdicts=good)
    with pytest.raises(Unfit, match="no repeat 1"):
        put_result(actor, run, 0, verdicts=good, repeat=1)
    with pytest.raises(Invalid, match="1 criteria and 2 verdicts"):
        put_result(actor, run, 0, verdicts=good * 2)
    going = make_run(actor)
    with pytest.raises(StateError, match="still going"):
        put_result(actor, going, 0, verdicts=good)
    assert not ResultVersion.objects.exists()


def test_the_history_goes_with_the_run(run: Run) -> None:
    actor = make_actor(account=run.account)
    put_result(actor, run, 0, verdicts=[Verdict(1.0, True)])
    assert ResultVersion.objects.count() == 1
    delete_run(actor, run)
    purge_runs()
    assert not ResultVersion.objects.exists()
