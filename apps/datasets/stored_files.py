"""Store uploaded bytes as rows, read ranges of them, and delete them."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from tempfile import TemporaryFile
from typing import BinaryIO
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import BinaryField
from django.db.models.functions import Substr
from django.utils import timezone

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.datasets.models import CHUNK_BYTES, File, FileChunk
from apps.datasets.sniffing import HEAD_BYTES, describe_content
from apps.errors import Invalid, LimitError
from apps.prepared import Prepared

# The database cuts, and nothing is ordered: it would sort the bytes themselves.
_PIECE = Prepared(
    lambda file_id, number, place, size: (
        FileChunk.objects.filter(file_id=file_id, number=number)
        .order_by()
        .values_list(Substr("data", place, size, output_field=BinaryField()))
    )
)


def store_file(
    actor: Actor,
    *,
    filename: str,
    purpose: str,
    chunks: Iterable[bytes],
    expires_at: datetime | None = None,
    is_inline: bool = False,
    imported_id: str | None = None,
) -> File:
    """Store a stream of bytes as a file, which appears when its last byte is stored.

    imported_id: the id that it had elsewhere and keeps; no present file of the account has it.
    Raises LimitError beyond MAX_UPLOAD_BYTES and leaves nothing behind then.
    """
    account = actor.require(Action.EDIT)
    if imported_id is not None:
        # Deleted, expired, or left half-way by an import that died.
        gone = File.objects.filter(account=account, imported_id=imported_id)
        gone.exclude(pk__in=gone.present()).update(imported_id=None)
    if not filename:
        raise Invalid("A file needs a name.", path="file", code="missing_required_parameter")
    file = File.objects.create(
        account=account,
        filename=filename,
        purpose=purpose,
        expires_at=expires_at,
        is_inline=is_inline,
        imported_id=imported_id,
        created_by=actor.user,
    )
    try:
        size = 0
        for number, data in enumerate(_pieces(chunks)):
            size += len(data)
            if size > settings.MAX_UPLOAD_BYTES:
                raise LimitError(
                    f"The file is larger than the limit of {settings.MAX_UPLOAD_BYTES:,} bytes."
                )
            FileChunk.objects.create(file=file, number=number, data=data)
    except BaseException:
        file.delete()
        raise
    file.byte_count, file.ready_at = size, timezone.now()
    file.save(update_fields=["byte_count", "ready_at"])
    return file


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut the bytes every CHUNK_BYTES, so that a position in the file tells its row."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)


def read_file(file_id: UUID, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Yield the bytes from `start` to before `stop`, a chunk at a time."""
    number = start // CHUNK_BYTES
    while stop is None or number * CHUNK_BYTES < stop:
        base = number * CHUNK_BYTES
        low = max(start - base, 0)
        size = CHUNK_BYTES if stop is None else min(stop - base, CHUNK_BYTES) - low
        chunk = _PIECE.first(file_id=file_id, number=number, place=low + 1, size=size)
        if chunk is None:
            return
        yield bytes(chunk[0])
        number += 1


def describe_file(file: File) -> str:
    """Say what a file that should be JSONL in UTF-8 seems to be; "" when it is that."""
    head = b"".join(read_file(file.pk, 0, HEAD_BYTES))
    return describe_content(head, is_whole=file.byte_count <= HEAD_BYTES)


def open_file(file: File) -> BinaryIO:
    """Copy a file to this machine's disk and open it; the copy goes when it is closed.

    Readers that seek may do so in threads of their own, which must not come by connections.
    """
    copy = TemporaryFile()  # noqa: SIM115  the caller closes it
    for data in read_file(file.pk):
        copy.write(data)
    copy.seek(0)
    return copy


@transaction.atomic
def delete_file(actor: Actor, file: File) -> None:
    """Hide a file at once; its bytes go when no run reads them any more."""
    actor.require(Action.EDIT, file.account)
    if File.objects.filter(pk=file.pk, deleted_at=None).update(deleted_at=timezone.now()):
        record(actor, "file.delete", file, before={"filename": file.filename})


def purge_files(limit: int = 5) -> int:
    """Remove some deleted or expired files that no run reads; return how many."""
    now = timezone.now()
    idle = File.objects.filter(runs=None)
    gone = idle.filter(deleted_at__lt=now) | idle.filter(expires_at__lt=now)
    count = 0
    for file in gone.distinct()[:limit]:
        # One chunk a statement keeps every transaction short.
        for pk in list(file.chunks.values_list("pk", flat=True)):
            FileChunk.objects.filter(pk=pk).delete()
        file.delete()
        count += 1
    return count
