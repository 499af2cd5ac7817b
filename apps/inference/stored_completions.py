"""Store what models answered, to be listed and evaluated later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.ids import new_id
from apps.inference.models import CompletionTag, StoredCompletion
from apps.strict_json import dump_json

PURGED_AT_ONCE = 1_000


@dataclass(frozen=True)
class Keep:
    """The parts of a question that are stored with its answer; see StoredCompletion."""

    kind: str
    messages: Sequence[Mapping[str, Any]]
    params: Mapping[str, Any]
    instructions: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)


@transaction.atomic
def store_completion(
    actor: Actor,
    keep: Keep,
    *,
    model: str,
    completion: Mapping[str, Any],
    pk: UUID | None = None,
    created_at: datetime | None = None,
) -> StoredCompletion:
    """Store an answer with its question."""
    kept = StoredCompletion.objects.create(
        pk=pk or new_id(),
        created_at=created_at or timezone.now(),
        account=actor.require(Action.EDIT),
        kind=keep.kind,
        model=model,
        instructions=keep.instructions,
        messages=dump_json(keep.messages),
        params=dump_json(keep.params),
        completion=dump_json(completion),
        metadata=dump_json(keep.metadata),
        spec=dump_json(keep.spec),
        created_by=actor.user,
    )
    _tag(kept, keep.metadata)
    return kept


@transaction.atomic
def update_completion(
    actor: Actor, kept: StoredCompletion, *, metadata: Mapping[str, str]
) -> StoredCompletion:
    """Replace the metadata as a whole."""
    actor.require(Action.EDIT, kept.account)
    before, kept.metadata = kept.metadata, dump_json(metadata)
    kept.save(update_fields=["metadata"])
    kept.tags.all().delete()
    _tag(kept, metadata)
    record(
        actor,
        "completion.update",
        kept,
        before={"metadata": before},
        after={"metadata": kept.metadata},
    )
    return kept


def _tag(kept: StoredCompletion, metadata: Mapping[str, str]) -> None:
    CompletionTag.objects.bulk_create(
        CompletionTag(account_id=kept.account_id, completion=kept, key=key, value=value)
        for key, value in metadata.items()
    )


@transaction.atomic
def delete_completion(actor: Actor, kept: StoredCompletion) -> None:
    """Hide a completion; runs made from it keep its row."""
    actor.require(Action.EDIT, kept.account)
    gone = StoredCompletion.objects.filter(pk=kept.pk, deleted_at=None)
    if gone.update(deleted_at=timezone.now()):
        record(actor, "completion.delete", kept, before={"model": kept.model})


def purge_completions() -> int:
    """Remove some deleted completions, and return how many.

    Runs that were made from them have their rows in a file.
    """
    gone = StoredCompletion.objects.filter(deleted_at__lt=timezone.now())
    pks = list(gone.values_list("pk", flat=True)[:PURGED_AT_ONCE])
    StoredCompletion.objects.filter(pk__in=pks).delete()
    return len(pks)
