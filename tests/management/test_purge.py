"""`manage.py purge --now` removes all that is deleted and nothing else, and says how far it is."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from apps.evaluations.engine import purge
from apps.evaluations.models import Result, Run, Shard
from apps.evaluations.services.runs import delete_run
from tests.factories import make_actor
from tests.web.worked import make_run

pytestmark = pytest.mark.django_db


def purged(*words: str) -> list[str]:
    out = StringIO()
    call_command("purge", *words, stdout=out)
    return out.getvalue().splitlines()


def test_what_is_deleted_goes_at_once_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "PIECE", 3)
    actor = make_actor()
    gone, kept = make_run(actor, ["p"] * 8), make_run(actor, ["f"] * 5)
    delete_run(actor, gone)
    assert Result.objects.count() == 13
    assert purged("--now") == ["runs: 9 removed"]
    assert list(Run.objects.all()) == [kept]
    assert Result.objects.count() == Result.objects.of_run(kept).count() == 5
    assert not Shard.objects.exclude(run=kept).exists()
    assert purged("--now") == ["Nothing that is deleted is left."]


def test_nothing_is_removed_unless_it_is_said_twice() -> None:
    actor = make_actor()
    delete_run(actor, make_run(actor, ["p"]))
    with pytest.raises(CommandError, match="--now"):
        call_command("purge")
    assert Result.objects.count() == 1


def test_a_sweep_stops_removing_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "PIECE", 2)
    actor = make_actor()
    delete_run(actor, make_run(actor, ["p"] * 6))
    ticks = iter([0.0, 0.0, 9.0])
    monkeypatch.setattr(purge.time, "monotonic", lambda: next(ticks))
    assert purge.purge_runs(seconds=5) == 2
    assert Result.objects.count() == 4
