"""Make rows of a run from stored completions: chosen, and kept as they are now."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.datasets.models import File
from apps.datasets.stored_files import store_file
from apps.datasets.tabular import write_jsonl
from apps.grading.samples import complete_sample
from apps.inference.models import StoredCompletion
from apps.keyset import beyond, pages_of

SNAPSHOT_PURPOSE = "snapshot"
ROWS_AT_ONCE = 200
ORDER = ("created_at", "id")
# A snapshot that no run came to use, or whose run is gone, is purged after this.
SNAPSHOT_LIFE = timedelta(days=1)


@dataclass(frozen=True)
class Selection:
    """The stored completions that become rows of a run; what is None or empty selects all.

    metadata: pairs that each must be there. created_after, created_before: inclusive. instructions:
    a text to find in them, whatever its case. fits: whether these parameters are wanted. limit: the
    most that become rows, of more the newest.
    """

    kind: str
    metadata: Sequence[tuple[str, str]] = ()
    model: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    instructions: str | None = None
    fits: Callable[[Mapping[str, Any]], bool] | None = None
    limit: int | None = None


def take_snapshot(actor: Actor, selection: Selection, *, with_answers: bool) -> File:
    """Store the selected completions, the oldest first, as a file of rows that a run can use.

    item.input holds the messages, and where it was kept instructions what was said before them;
    with_answers: `sample` is the stored answer.
    """
    rows = (_row(kept, with_answers) for kept in _selected(actor, selection))
    return store_file(
        actor,
        filename="stored-completions.jsonl",
        purpose=SNAPSHOT_PURPOSE,
        chunks=write_jsonl(rows),
        expires_at=timezone.now() + SNAPSHOT_LIFE,
        is_inline=True,
    )


def _selected(actor: Actor, selection: Selection) -> Iterator[StoredCompletion]:
    """Yield what is selected, the oldest first."""
    account = actor.require(Action.READ)
    before = min(filter(None, (selection.created_before, timezone.now())))
    found = (
        StoredCompletion.objects.filter(
            account=account, kind=selection.kind, created_at__lte=before
        )
        .present()
        .with_metadata(selection.metadata)
    )
    if selection.model is not None:
        found = found.filter(model=selection.model)
    if selection.created_after is not None:
        found = found.filter(created_at__gte=selection.created_after)
    if selection.instructions:
        found = found.filter(instructions__icontains=selection.instructions)
    yield from _fitting(_newest(found, selection), selection)


def _newest(found: QuerySet[StoredCompletion], selection: Selection) -> QuerySet[StoredCompletion]:
    """Keep as many of the newest as fit within the limit, and among them any that do not fit."""
    if selection.limit is None:
        return found
    # contract: openai section 8.2: the newest, though as rows the oldest of them comes first
    keys = _fitting(found.only("created_at", "params"), selection, descending=True)
    oldest = next(islice(keys, selection.limit - 1, None), None)
    if oldest is None:
        return found
    return found.filter(Q(pk=oldest.pk) | beyond(ORDER, (oldest.created_at, oldest.pk)))


def _fitting(
    found: QuerySet[StoredCompletion], selection: Selection, *, descending: bool = False
) -> Iterator[StoredCompletion]:
    # The rows of the snapshot are written meanwhile.
    for page in pages_of(found, ORDER, ROWS_AT_ONCE, descending=descending):
        for kept in page:
            if selection.fits is None or selection.fits(kept.read_params()):
                yield kept


def _row(kept: StoredCompletion, with_answer: bool) -> dict[str, Any]:
    item: dict[str, Any] = {"input": kept.read_messages()}
    if kept.instructions:
        item["instructions"] = kept.instructions
    if not with_answer:
        return {"item": item}
    params, completion = kept.read_params(), kept.read_completion()
    sample = {
        "model": completion.get("model") or kept.model,
        "choices": completion["choices"],
        "usage": completion.get("usage"),
    }
    if tools := params.get("tools"):
        sample["input_tools"] = tools
    wants_json = (params.get("response_format") or {}).get("type", "text") != "text"
    return {"item": item, "sample": complete_sample(sample, wants_json=wants_json)}
