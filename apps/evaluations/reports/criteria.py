"""Read the criteria that runs are judged by; they are never edited, so this process keeps them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from apps.evaluations.models import Criterion, Run
from apps.kept import Kept
from apps.prepared import Prepared

Key = tuple[UUID, int]  # an evaluation and the version of its criteria

FIELDS = [field.attname for field in Criterion._meta.concrete_fields]
CRITERION_BYTES = 2_000  # about, beside its settings

_CRITERIA: Kept[Sequence[Criterion]] = Kept(4 * 1024 * 1024)
_OF_VERSION = Prepared(
    lambda evaluation_id, version: (
        Criterion.objects.filter(evaluation_id=evaluation_id, version=version)
        .order_by("position")
        .values_list(*FIELDS)
    )
)


def key_of_criteria(run: Run) -> Key:
    return (run.evaluation_id, run.criteria_version)


def read_criteria(run: Run) -> Sequence[Criterion]:
    """List the criteria that the run is judged by, in order."""
    return criteria_at(key_of_criteria(run))


def criteria_at(key: Key) -> Sequence[Criterion]:
    """List the criteria of an evaluation's version, in order."""
    found = _CRITERIA.get(key)
    if found is None:
        rows: Any = _OF_VERSION.rows(evaluation_id=key[0], version=key[1])
        found = [Criterion.from_db(_OF_VERSION.alias, FIELDS, row) for row in rows]
        _keep(key, found)
    return found


def criteria_of_runs(runs: Iterable[Run]) -> Mapping[Key, Sequence[Criterion]]:
    """Read the criteria of many runs, those that are not kept in one query."""
    return criteria_at_all(map(key_of_criteria, runs))


def criteria_at_all(keys: Iterable[Key]) -> Mapping[Key, Sequence[Criterion]]:
    """Read the criteria of many versions, those that are not kept in one query."""
    keys = set(keys)
    found: dict[Key, Sequence[Criterion]] = {
        key: criteria for key in keys if (criteria := _CRITERIA.get(key)) is not None
    }
    missing = keys - found.keys()
    read: dict[Key, list[Criterion]] = {key: [] for key in missing}
    if missing:
        used = Criterion.objects.filter(
            evaluation__in={evaluation_id for evaluation_id, _ in missing},
            version__in={version for _, version in missing},
        )
        for criterion in used:
            key = (criterion.evaluation_id, criterion.version)
            if key in read:
                read[key].append(criterion)
    for key, criteria in read.items():
        _keep(key, criteria)
    return {**found, **read}


def _keep(key: Key, criteria: Sequence[Criterion]) -> None:
    # Without any the evaluation may be just about to get them.
    if criteria:
        size = sum(len(one.settings) + CRITERION_BYTES for one in criteria)
        _CRITERIA.put(key, criteria, size)
