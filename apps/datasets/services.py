"""Create, change, archive, restore and delete datasets."""

from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.datasets.models import NAME_LENGTH, Dataset
from apps.errors import Invalid


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


def checked_name(name: str) -> str:
    name = name.strip()
    if not 0 < len(name) <= NAME_LENGTH:
        raise Invalid(f"A dataset's name has 1 to {NAME_LENGTH:,} characters.", path="name")
    return name
