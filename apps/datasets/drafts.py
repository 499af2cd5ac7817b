"""Edit the cases of a dataset's draft, and freeze it as a version."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.datasets.bulk_insert import (
    PIECE_ROWS,
    BeingFilled,
    Body,
    Fill,
    end_dead_fill,
    insert_bodies,
)
from apps.datasets.models import Dataset, DatasetVersion, TestCase, TestCaseQuerySet
from apps.errors import Invalid, Path, StateError
from apps.strict_json import dump_json, parse_json


@contextmanager
def open_draft(actor: Actor, dataset: Dataset) -> Iterator[Dataset]:
    """Lock a dataset until the block ends, and save its fields then."""
    actor.require(Action.EDIT, dataset.account)
    end_dead_fill(dataset)
    with transaction.atomic():
        draft = Dataset.objects.present().select_for_update().get(pk=dataset.pk)
        if draft.archived_at is not None:
            raise StateError(f"{draft.name} is archived: restore it first.")
        if draft.import_token is not None:
            raise BeingFilled(draft.name)
        yield draft
        draft.updated_at = timezone.now()
        draft.save(
            update_fields=[
                "latest_num",
                "draft_changes",
                "case_count",
                "next_position",
                "updated_at",
            ]
        )


def add_cases(
    actor: Actor, dataset: Dataset, *, items: Iterable[Mapping[str, Any]]
) -> TestCaseQuerySet:
    """Add items at the end of the draft, all or none; return their cases, in order.

    Raises Invalid, with the item's place as its path, for what JSON has no word for.
    """
    bodies = [_body(item, None, ("items", index)) for index, item in enumerate(items)]
    if len(bodies) > PIECE_ROWS:
        return _add_in_pieces(actor, dataset, bodies)
    with open_draft(actor, dataset) as draft:
        first = draft.next_position
        insert_bodies(draft, first, bodies)
        draft.next_position += len(bodies)
        draft.case_count += len(bodies)
        draft.draft_changes += len(bodies)
    return draft.draft_cases(first)


def _add_in_pieces(actor: Actor, dataset: Dataset, bodies: Sequence[Body]) -> TestCaseQuerySet:
    fill = begin_fill(actor, Dataset.objects.present().get(pk=dataset.pk))
    draft = fill.dataset
    try:
        for body in bodies:
            fill.add(body)
        fill.flush()
        with transaction.atomic():
            fill.show(
                case_count=draft.case_count + fill.count,
                draft_changes=draft.draft_changes + fill.count,
            )
    except BaseException:
        fill.abandon()
        raise
    first = draft.next_position
    draft.refresh_from_db()
    return draft.draft_cases(first)


def edit_case(
    actor: Actor,
    case: TestCase,
    *,
    item: Mapping[str, Any],
    sample: Mapping[str, Any] | None = None,
) -> TestCase:
    """Give a case of the draft another item and recorded answer; frozen versions keep the old.

    Raises StateError when the case is no longer part of the draft.
    """
    body = _body(item, sample, ("item",))
    with open_draft(actor, case.dataset) as draft:
        held = _held_case(draft, case)
        before = {"item": parse_json(held.item)}
        if held.from_num == draft.draft_num:
            TestCase.objects.filter(pk=held.pk).update(item=body.item, sample=body.sample)
            held.item, held.sample = body.item, body.sample
        else:
            TestCase.objects.filter(pk=held.pk).update(until_num=draft.draft_num)
            held = TestCase.objects.create(
                account_id=held.account_id,
                dataset=draft,
                key=held.key,
                position=held.position,
                from_num=draft.draft_num,
                item=body.item,
                sample=body.sample,
            )
        draft.draft_changes += 1
        record(actor, "case.edit", held, before=before, after={"item": dict(item)})
    return held


def remove_case(actor: Actor, case: TestCase) -> None:
    """Take a case out of the draft; frozen versions keep it. Raises StateError as edit_case."""
    with open_draft(actor, case.dataset) as draft:
        held = _held_case(draft, case)
        record(actor, "case.remove", held, before={"item": parse_json(held.item)})
        if held.from_num == draft.draft_num:
            held.delete()
        else:
            TestCase.objects.filter(pk=held.pk).update(until_num=draft.draft_num)
        draft.case_count -= 1
        draft.draft_changes += 1


def _held_case(draft: Dataset, case: TestCase) -> TestCase:
    held = draft.draft_cases().filter(pk=case.pk).first()
    if held is None:
        raise StateError("This case was changed or removed meanwhile, or is of an older version.")
    return held


def freeze_version(actor: Actor, dataset: Dataset) -> DatasetVersion:
    """Make the draft the next version. Raises StateError when it equals the last one."""
    with open_draft(actor, dataset) as draft:
        if not draft.draft_changes:
            raise StateError(
                f"{draft.name} has not changed since version {draft.latest_num}."
                if draft.latest_num
                else f"{draft.name} has no cases yet."
            )
        version = DatasetVersion.objects.create(
            account_id=draft.account_id,
            dataset=draft,
            num=draft.draft_num,
            first_position=draft.first_position,
            case_count=draft.case_count,
            created_by=actor.user,
        )
        draft.latest_num = version.num
        draft.draft_changes = 0
        record(actor, "dataset.freeze", version, after={"version": version.num})
    return version


def _body(item: Mapping[str, Any], sample: Mapping[str, Any] | None, path: Path) -> Body:
    try:
        return Body(dump_json(dict(item)), None if sample is None else dump_json(dict(sample)))
    except (TypeError, ValueError) as error:
        raise Invalid(f"This cannot be written as JSON: {error}", path=path) from error


def begin_fill(actor: Actor, dataset: Dataset) -> Fill:
    """Begin a fill of a dataset. Raises StateError for one that takes no changes."""
    actor.require(Action.EDIT, dataset.account)
    fill = Fill.begin(dataset)
    if fill.dataset.archived_at is not None:
        fill.abandon()
        raise StateError(f"{dataset.name} is archived: restore it first.")
    return fill
