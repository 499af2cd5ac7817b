"""Create datasets, edit the cases of their drafts, freeze versions, find, read and delete them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F
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
from apps.datasets.models import (
    NAME_LENGTH,
    Dataset,
    DatasetVersion,
    TestCase,
    TestCaseQuerySet,
)
from apps.errors import Invalid, Path, StateError, Unfit
from apps.strict_json import dump_json, parse_json

CASES_AT_ONCE = 1_000


@transaction.atomic
def create_dataset(
    actor: Actor, *, name: str, description: str = "", label_field: str = "", text_field: str = ""
) -> Dataset:
    """Create an empty dataset in the actor's account. Names need not be unique."""
    account = actor.require(Action.EDIT)
    dataset = Dataset.objects.create(
        account=account,
        name=checked_name(name),
        description=description,
        label_field=label_field,
        text_field=text_field,
    )
    record(actor, "dataset.create", dataset, after={"name": dataset.name})
    return dataset


@transaction.atomic
def update_dataset(actor: Actor, dataset: Dataset, **changes: str) -> Dataset:
    """Change the name, description, label_field or text_field."""
    actor.require(Action.EDIT, dataset.account)
    held = Dataset.objects.present().select_for_update().get(pk=dataset.pk)
    if "name" in changes:
        changes["name"] = checked_name(changes["name"])
    before = {field: getattr(held, field) for field in changes}
    for field, value in changes.items():
        setattr(held, field, value)
    held.updated_at = timezone.now()
    held.save(update_fields=[*changes, "updated_at"])
    record(actor, "dataset.change", held, before=before, after=dict(changes))
    return held


def archive_dataset(actor: Actor, dataset: Dataset) -> None:
    """Archive a dataset: it is no longer found by its name and takes no changes."""
    _set_archived(actor, dataset, is_archived=True)


def restore_dataset(actor: Actor, dataset: Dataset) -> None:
    _set_archived(actor, dataset, is_archived=False)


@transaction.atomic
def _set_archived(actor: Actor, dataset: Dataset, *, is_archived: bool) -> None:
    actor.require(Action.EDIT, dataset.account)
    now = timezone.now()
    if (
        Dataset.objects.present()
        .filter(pk=dataset.pk, archived_at__isnull=is_archived)
        .update(archived_at=now if is_archived else None, updated_at=now)
    ):
        record(actor, "dataset.archive" if is_archived else "dataset.restore", dataset)


@transaction.atomic
def delete_dataset(actor: Actor, dataset: Dataset) -> None:
    """Hide a dataset at once. Its rows go in pieces later, after the runs that use them."""
    actor.require(Action.EDIT, dataset.account)
    # Without its token an import that is under way stops at its next piece.
    if Dataset.objects.filter(pk=dataset.pk, deleted_at=None).update(
        deleted_at=timezone.now(), import_token=None, import_until=None
    ):
        record(actor, "dataset.delete", dataset, before={"name": dataset.name})


def find_version(account_id: UUID, name: str, num: int | None = None) -> DatasetVersion:
    """Return version `num`, or the newest, of the account's unarchived dataset of this name.

    Raises ObjectDoesNotExist when there is none, Invalid when several datasets have the name.
    """
    found = list(
        Dataset.objects.present().filter(
            account_id=account_id, name=name, archived_at=None, latest_num__gt=0
        )[:2]
    )
    if len(found) > 1:
        raise Unfit(f"Several datasets are named {name!r}: rename all but one.", path="dataset")
    versions = DatasetVersion.objects.select_related("dataset").filter(dataset__in=found)
    version = versions.filter(num=F("dataset__latest_num") if num is None else num).first()
    if version is None:
        which = "a frozen version" if num is None else f"version {num}"
        raise DatasetVersion.DoesNotExist(f"There is no dataset {name!r} with {which}.")
    return version


def checked_name(name: str) -> str:
    name = name.strip()
    if not 0 < len(name) <= NAME_LENGTH:
        raise Invalid(f"A dataset's name has 1 to {NAME_LENGTH:,} characters.", path="name")
    return name


@contextmanager
def _open_draft(actor: Actor, dataset: Dataset) -> Iterator[Dataset]:
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
    with _open_draft(actor, dataset) as draft:
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
    with _open_draft(actor, case.dataset) as draft:
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
    with _open_draft(actor, case.dataset) as draft:
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
    with _open_draft(actor, dataset) as draft:
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


def read_cases(version: DatasetVersion) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Yield every item and recorded answer of a version, in order.

    Page by page, so that a slow reader keeps no transaction and no cursor open.
    """
    start = 0
    while True:
        page = list(version.cases(start).values_list("position", "item", "sample")[:CASES_AT_ONCE])
        for _, item, sample in page:
            yield parse_json(item), None if sample is None else parse_json(sample)
        if len(page) < CASES_AT_ONCE:
            return
        start = page[-1][0] + 1


def examples_of(version: DatasetVersion) -> Iterator[tuple[str, str]]:
    """Yield the text and the label of every case that has a label, in order.

    The text is the dataset's text field, or without one all texts but the label, a line each.
    Raises Invalid when the dataset names no label field.
    """
    dataset = version.dataset
    if not dataset.label_field:
        raise Unfit(f"The dataset {dataset.name!r} names no label field.", path="label_field")
    return _examples(version, dataset.label_field, dataset.text_field)


def _examples(
    version: DatasetVersion, label_field: str, text_field: str
) -> Iterator[tuple[str, str]]:
    for item, _ in read_cases(version):
        label = _as_text(item.get(label_field))
        if not label:
            continue
        if text_field:
            yield _as_text(item.get(text_field)), label
        else:
            texts = (
                value
                for name, value in item.items()
                if name != label_field and isinstance(value, str)
            )
            yield "\n".join(texts), label


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else dump_json(value)
