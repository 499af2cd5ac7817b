"""Read and write criteria as JSON, and change those of an evaluation."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.datasets.models import NAME_LENGTH
from apps.errors import Invalid, Path, StateError
from apps.evaluations.models import Criterion, Evaluation
from apps.evaluations.services.evaluations import (
    NewCriterion,
    check_criteria,
    check_judges,
    store_criteria,
)
from apps.grading.graders.base import Grader
from apps.strict_json import BadJSON, dump_json, parse_json

CRITERIA = 1_000  # at most in one evaluation
NOT_SETTINGS = frozenset({"type", "name", "id"})


def write_criteria(criteria: Iterable[Criterion | NewCriterion]) -> str:
    """Write criteria as an indented JSON array of objects with `type`, `name` and the settings."""
    return json.dumps([_written(one) for one in criteria], indent=2, ensure_ascii=False)


def _written(criterion: Criterion | NewCriterion) -> dict[str, Any]:
    if isinstance(criterion, Criterion):
        return {"type": criterion.kind, "name": criterion.name, **criterion.read_settings()}
    return {"type": criterion.kind, "name": criterion.name, **criterion.settings}


def read_criteria(text: str) -> list[NewCriterion]:
    """Read criteria in the form of `write_criteria`. Raises Invalid with a path."""
    try:
        found = parse_json(text)
    except BadJSON as error:
        raise Invalid(f"This is not JSON: {error}", path="criteria") from error
    if not isinstance(found, list):
        raise Invalid("Criteria are an array of objects.", path="criteria")
    if len(found) > CRITERIA:
        raise Invalid(f"There are at most {CRITERIA:,} criteria.", path="criteria")
    return [_read(one, ("criteria", index)) for index, one in enumerate(found)]


def _read(found: Any, path: Path) -> NewCriterion:
    if not isinstance(found, dict):
        raise Invalid("A criterion is an object.", path=path)
    for key in ("type", "name"):
        if not isinstance(found.get(key), str) or not found[key]:
            raise Invalid(f"{key} must be a text that is not empty.", path=(*path, key))
    if len(found["name"]) > NAME_LENGTH:
        raise Invalid(f"A name has at most {NAME_LENGTH} characters.", path=(*path, "name"))
    settings = {key: value for key, value in found.items() if key not in NOT_SETTINGS}
    return NewCriterion(found["type"], found["name"], settings)


def check_criteria_of(evaluation: Evaluation, criteria: Sequence[NewCriterion]) -> list[Grader]:
    """Return the graders of criteria that could be this evaluation's. Raises Invalid or Unfit."""
    schema = evaluation.read_item_schema()
    graders = check_criteria(criteria, schema)
    check_judges(evaluation.account_id, graders)
    return graders


def change_criteria(
    actor: Actor, evaluation: Evaluation, criteria: Sequence[NewCriterion]
) -> Evaluation:
    """Give an evaluation other criteria, from its next run on: a run keeps those it ran with.

    Raises Invalid as create_evaluation does, and StateError for one that takes its scorers by
    name: its next run would have those all the same.
    """
    actor.require(Action.EDIT, evaluation.account)
    check_criteria_of(evaluation, criteria)
    with transaction.atomic():
        held = hold_evaluation(evaluation)
        if (scorers := held.read_scorers()) is not None:
            raise StateError(f"This evaluation takes its scorers by name: {', '.join(scorers)}.")
        version = keep_criteria(held, criteria)
        if version != held.criteria_version:
            Evaluation.objects.filter(pk=held.pk).update(
                criteria_version=version, updated_at=timezone.now()
            )
            before, after = {"version": held.criteria_version}, {"version": version}
            record(actor, "evaluation.criteria", held, before=before, after=after)
    evaluation.refresh_from_db()
    return evaluation


def hold_evaluation(evaluation: Evaluation) -> Evaluation:
    """Lock an evaluation until the commit, and return it as it is now."""
    return Evaluation.objects.present().select_for_update().get(pk=evaluation.pk)


def keep_criteria(evaluation: Evaluation, criteria: Sequence[NewCriterion]) -> int:
    """Return the newest version of a locked evaluation with these criteria, or make one."""
    wanted = [(one.kind, one.name, dump_json(one.settings)) for one in criteria]
    stored = Criterion.objects.filter(evaluation=evaluation).order_by("version", "position")
    versions: dict[int, list[tuple[str, str, str]]] = {evaluation.criteria_version: []}
    rows = stored.values_list("version", "kind", "name", "settings")
    for version, kind, name, settings in rows.iterator():
        versions.setdefault(version, []).append((kind, name, settings))
    if versions[evaluation.criteria_version] == wanted:
        return evaluation.criteria_version
    for version in sorted(versions, reverse=True):
        if versions[version] == wanted:
            return version
    version = max(versions) + 1
    store_criteria(evaluation, criteria, version=version)
    return version
