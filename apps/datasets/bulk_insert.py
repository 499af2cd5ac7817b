"""Insert many cases in pieces that nobody sees until one last statement shows them all."""

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple, Self
from uuid import UUID, uuid4

from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from apps.bulk import insert_rows
from apps.datasets.models import Dataset, TestCase
from apps.errors import StateError
from apps.ids import new_id
from apps.leases import uuid_writer

# A transaction keeps every other writer waiting, so it is bounded in rows and in characters.
PIECE_ROWS = 2_000
PIECE_CHARACTERS = 4 * 1024 * 1024
LEASE = timedelta(seconds=60)
RENEW_SECONDS = 10.0

# The database's clock decides, since two machines' clocks may differ.
UNHELD = Q(import_until=None) | Q(import_until__lte=Now())


class Body(NamedTuple):
    """A case's item and recorded answer, each as compact JSON."""

    item: str
    sample: str | None = None


class BeingFilled(StateError):
    """Another import is filling the dataset."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is being filled by an import. Try again when it ends.")


class FillLost(StateError):
    """The dataset was deleted, or the fill stood still so long that another writer took over."""


def insert_bodies(dataset: Dataset, position: int, bodies: Sequence[Body]) -> None:
    """Insert new cases of the draft state at `position` and on.

    Without model objects: through them it takes more than twice as long.
    """
    constants = {
        "account_id": dataset.account_id,
        "created_at": timezone.now(),
        "dataset_id": dataset.pk,
        "from_num": dataset.draft_num,
        "until_num": None,
    }
    columns = [*constants, "id", "key", "position", "item", "sample"]
    fields = {field.attname: field for field in TestCase._meta.concrete_fields}
    head = tuple(
        fields[name].get_db_prep_save(value, connection) for name, value in constants.items()
    )
    as_parameter = uuid_writer()

    def row(at: int, body: Body) -> tuple[Any, ...]:
        key = as_parameter(new_id())
        return (*head, key, key, at, body.item, body.sample)

    insert_rows(TestCase, columns, [row(at, body) for at, body in enumerate(bodies, position)])


class Fill:
    """The exclusive right to add cases to a dataset, under a lease; `show` makes them visible.

    Every piece is written in a transaction that checks the token, so a fill that stood still
    cannot write over its successor, which raises FillLost.
    """

    def __init__(self, dataset: Dataset, token: UUID) -> None:
        self.dataset = dataset
        self.count = 0
        self._token = token
        self._held: list[Body] = []
        self._held_characters = 0
        self._renewed_at = time.monotonic()

    @classmethod
    def begin(cls, dataset: Dataset) -> Self:
        """Take the lease and clear what a dead predecessor left.

        Raises BeingFilled, or ObjectDoesNotExist when it was deleted since the caller read it.
        """
        token = uuid4()
        as_seen = Dataset.objects.filter(
            pk=dataset.pk, deleted_at__isnull=dataset.deleted_at is None
        )
        if not as_seen.filter(UNHELD).update(import_token=token, import_until=Now() + LEASE):
            raise BeingFilled(as_seen.get().name)
        fill = cls(Dataset.objects.select_related("account").get(pk=dataset.pk), token)
        fill.remove(from_position=fill.dataset.next_position)
        return fill

    def add(self, body: Body) -> None:
        self._held.append(body)
        self._held_characters += len(body.item) + len(body.sample or "")
        if (
            len(self._held) >= PIECE_ROWS
            or self._held_characters >= PIECE_CHARACTERS
            or time.monotonic() - self._renewed_at > RENEW_SECONDS
        ):
            self.flush()

    def keep(self) -> None:
        """Renew the lease where it is time; a fill that waits to be shown with others needs it."""
        if time.monotonic() - self._renewed_at > RENEW_SECONDS:
            with transaction.atomic():
                self._renew()

    def flush(self) -> None:
        if not self._held:
            return
        with transaction.atomic():
            self._renew()
            insert_bodies(self.dataset, self.dataset.next_position + self.count, self._held)
        self.count += len(self._held)
        self._held.clear()
        self._held_characters = 0

    def show(self, **changes: Any) -> None:
        """End the fill with the statement that makes its cases, and `changes`, visible.

        Call in a transaction, after `flush`.
        """
        self._own(
            import_token=None,
            import_until=None,
            next_position=self.dataset.next_position + self.count,
            updated_at=timezone.now(),
            **changes,
        )

    def abandon(self) -> None:
        """Leave the dataset as it was; one that was created for this fill is removed."""
        with suppress(FillLost):
            self.remove(from_position=self.dataset.next_position)
            if self.dataset.deleted_at is None:
                self.release()
            else:
                Dataset.objects.filter(pk=self.dataset.pk, import_token=self._token).delete()

    def release(self) -> None:
        self._own(import_token=None, import_until=None)

    def remove(self, from_position: int, pieces: int | None = None) -> bool:
        """Remove at most so many pieces of PIECE_ROWS cases; return whether none is left."""
        rest = TestCase.objects.filter(dataset=self.dataset, position__gte=from_position)
        while rest.exists():
            if pieces == 0:
                return False
            with transaction.atomic():
                self._renew()
                TestCase.objects.filter(pk__in=rest.order_by().values("pk")[:PIECE_ROWS]).delete()
            pieces = None if pieces is None else pieces - 1
        return True

    def _renew(self) -> None:
        self._own(import_until=Now() + LEASE)
        self._renewed_at = time.monotonic()

    def _own(self, **changes: Any) -> None:
        if not Dataset.objects.filter(pk=self.dataset.pk, import_token=self._token).update(
            **changes
        ):
            raise FillLost(f"{self.dataset.name} was deleted or taken over while it was filled.")


def end_dead_fill(dataset: Dataset) -> None:
    """Clear what a dead import left in a dataset; one that is alive keeps its lease."""
    if Dataset.objects.filter(UNHELD, pk=dataset.pk, import_token__isnull=False).exists():
        with suppress(BeingFilled, FillLost, Dataset.DoesNotExist):
            Fill.begin(dataset).abandon()


def purge_datasets(pieces: int = 5) -> int:
    """Remove some cases of dead imports and of deleted datasets; return how many pieces.

    A dataset stays while a run uses one of its versions.
    """
    for dataset in Dataset.objects.present().filter(UNHELD, import_token__isnull=False)[:pieces]:
        end_dead_fill(dataset)
    gone = Dataset.objects.filter(UNHELD, deleted_at__isnull=False).exclude(
        versions__runs__isnull=False
    )
    done = 0
    for dataset in gone.order_by("pk")[:pieces]:
        if done == pieces:
            break
        with suppress(BeingFilled, FillLost, Dataset.DoesNotExist):
            done += _purge(dataset, pieces - done)
    return done


def _purge(dataset: Dataset, pieces: int) -> int:
    """Remove pieces of a dataset's cases, then the dataset; return how many pieces."""
    fill = Fill.begin(dataset)
    for done in range(1, pieces + 1):
        if fill.remove(from_position=0, pieces=1):
            fill.dataset.delete()
            return done
    fill.release()
    return pieces
