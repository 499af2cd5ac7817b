"""Read in a test what criteria said, of one run or of all there are."""

from typing import Any

from apps.evaluations.models import Result, Run
from apps.evaluations.packing import Verdict, pack
from apps.evaluations.reports import Judgement, read_criteria, read_items
from apps.strict_json import dump_json


def judgements(run: Run | None = None, **of: Any) -> list[Judgement]:
    """The verdicts on the results in their order; `of` narrows the results."""
    runs = Run.objects.order_by("pk") if run is None else [run]
    return [
        score
        for one in runs
        for item in read_items(one, Result.objects.of_run(one).filter(**of).in_order())
        for score in item.scores
    ]


def judgement(run: Run | None = None, *, name: str = "", **of: Any) -> Judgement:
    """The only verdict there is, or the only one of the criterion with this name."""
    found = [one for one in judgements(run, **of) if not name or one.criterion.name == name]
    assert len(found) == 1, found
    return found[0]


def put_verdicts(result: Result, **verdicts: Verdict) -> None:
    """Store these verdicts, by their criteria's names, in place of what a result has."""
    criteria = read_criteria(result.run)
    packed = pack([verdicts.get(one.name) for one in criteria])
    Result.objects.filter(pk=result.pk).update(**packed._asdict())


def change_verdicts(run: Run, **changes: Any) -> None:
    """Change every verdict of a run alike; an `exchange` is given as a value."""
    if "exchange" in changes:
        changes["exchange"] = dump_json(changes["exchange"])
    for result in Result.objects.of_run(run):
        packed = pack([one and one._replace(**changes) for one in result.read_verdicts()])
        Result.objects.filter(pk=result.pk).update(**packed._asdict())
