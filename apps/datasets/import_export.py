"""Import rows as a version of a dataset, all or none, and export a version as it came."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Account, Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.datasets.bulk_insert import UNHELD, BeingFilled, Body, Fill
from apps.datasets.drafts import begin_fill
from apps.datasets.models import Dataset, DatasetVersion
from apps.datasets.reading import read_cases
from apps.datasets.services import checked_name
from apps.datasets.tabular import BadRow, Row
from apps.datasets.unpacking import BadFile
from apps.errors import Invalid, StateError, Unfit
from apps.strict_json import dump_json

BAD_ROWS_SHOWN = 100
WRAPPER_KEYS = frozenset(("item", "sample"))


class BadRows(Invalid):
    """Rows that cannot be imported; `rows` are the first of them, at most BAD_ROWS_SHOWN."""

    def __init__(self, rows: Sequence[BadRow]) -> None:
        lines = "; ".join(f"{row.place}: {row.message}" for row in rows[:3])
        rest = f"; and {len(rows) - 3} more" if len(rows) > 3 else ""
        super().__init__(f"Nothing was imported. {lines}{rest}.", path="file")
        self.rows = tuple(rows)


def import_cases(
    actor: Actor,
    *,
    into: Dataset | str,
    rows: Iterable[Row | BadRow],
    skip: Callable[[BadRow], None] | None = None,
    flat: bool = False,
    label_field: str = "",
    text_field: str = "",
) -> DatasetVersion:
    """Make the rows the next version of a dataset, in place of all earlier cases, all or none.

    into: a dataset, or the name of one in the actor's account, which is made where there is none.
    rows: an object with no other keys than `item`, an object, and perhaps `sample`, an object or
    null, is a test case with a recorded answer; any other object is the item itself. With `flat`
    every object is the item itself.
    skip: is handed each row that cannot be taken, and the others are imported without it.
    label_field, text_field: kept on the dataset when given; every row must then have them.

    Nothing is seen of it before its last statement. Raises BadRows with the place of each row that
    cannot be taken, Invalid when there is no row or the file is not of its format, StateError when
    the dataset has unfrozen changes, is archived or is being filled.
    """
    wanted = {"label_field": label_field, "text_field": text_field}
    fields = {name: value for name, value in wanted.items() if value}
    fill = begin_import(actor, into=into if isinstance(into, Dataset) else checked_name(into))
    try:
        _fill_from_rows(fill, rows, flat, list(fields.values()), skip)
        return show_version(actor, fill, **fields)
    except BadFile as error:
        fill.abandon()
        message = f"Nothing was imported. The file cannot be read: {error}."
        raise Invalid(message, path=error.asks or "file") from error
    except BaseException:
        fill.abandon()
        raise


def begin_import(actor: Actor, *, into: Dataset | str) -> Fill:
    """Begin a fill whose cases `show_version` makes the next version; see `import_cases`.

    into: a dataset, or the exact name of one, which is made where there is none.
    Raises StateError as `import_cases`.
    """
    if isinstance(into, Dataset):
        dataset = Dataset.objects.present().get(pk=into.pk)
    else:
        dataset = _dataset_to_fill(actor, into)
    fill = begin_fill(actor, dataset)
    if fill.dataset.draft_changes:
        fill.abandon()
        raise StateError(f"{fill.dataset.name} has changes that no version holds: freeze it.")
    return fill


def _fill_from_rows(
    fill: Fill,
    rows: Iterable[Row | BadRow],
    flat: bool,
    fields: Sequence[str],
    skip: Callable[[BadRow], None] | None,
) -> None:
    bad: list[BadRow] = []
    first_skipped: BadRow | None = None
    for row in rows:
        body = row if isinstance(row, BadRow) else _body_of_row(row, flat, fields)
        if isinstance(body, BadRow) and skip is not None:
            skip(body)
            first_skipped = first_skipped or body
        elif isinstance(body, BadRow):
            bad.append(body)
            if len(bad) == BAD_ROWS_SHOWN:
                break
        elif not bad:
            fill.add(body)
    if bad:
        raise BadRows(bad)
    fill.flush()
    if not fill.count and first_skipped:
        raise Invalid(
            "Nothing was imported: no row can be taken. "
            f"{first_skipped.place}: {first_skipped.message}.",
            path="file",
        )
    if not fill.count:
        raise Invalid("There are no rows to import.", path="file")


def _body_of_row(row: Row, flat: bool, fields: Sequence[str]) -> Body | BadRow:
    item, sample = (row.value, None) if flat else unwrap(row.value)
    for field in fields:
        if item.get(field) is None:
            return row.refuse(f"the field {field!r} is missing")
    return Body(dump_json(item), None if sample is None else dump_json(sample))


def unwrap(row: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the item and the recorded answer of a row, read as `import_cases` says."""
    if not row.keys() <= WRAPPER_KEYS:
        return row, None
    item, sample = row.get("item"), row.get("sample")
    if not isinstance(item, dict) or not isinstance(sample, dict | None):
        return row, None
    return item, sample


@transaction.atomic
def show_version(actor: Actor, fill: Fill, **fields: str) -> DatasetVersion:
    """End a fill, after its `flush`, by making its cases the next version, with these fields."""
    dataset = fill.dataset
    fill.show(
        latest_num=dataset.draft_num,
        first_position=dataset.next_position,
        case_count=fill.count,
        deleted_at=None,
        **fields,
    )
    version = DatasetVersion.objects.create(
        account_id=dataset.account_id,
        dataset=dataset,
        num=dataset.draft_num,
        first_position=dataset.next_position,
        case_count=fill.count,
        created_by=actor.user,
    )
    record(actor, "dataset.import", version, after={"name": dataset.name, "cases": fill.count})
    return version


@transaction.atomic
def _dataset_to_fill(actor: Actor, name: str) -> Dataset:
    """Return the account's dataset of this name; a new one is deleted until it is shown."""
    account = actor.require(Action.EDIT)
    # Two imports of one new name must not make two datasets.
    Account.objects.select_for_update().get(pk=account.pk)
    named = Dataset.objects.filter(account=account, name=name)
    found = list(named.present().filter(archived_at=None)[:2])
    if len(found) > 1:
        raise Unfit(f"Several datasets are named {name!r}: rename all but one.", path="name")
    if found:
        return found[0]
    if named.filter(deleted_at__isnull=False, import_token__isnull=False).exclude(UNHELD).exists():
        raise BeingFilled(name)
    return Dataset.objects.create(account=account, name=name, deleted_at=timezone.now())


def export_cases(version: DatasetVersion) -> Iterator[dict[str, Any]]:
    """Yield the rows from which `import_cases` would make this version again, in order."""
    for item, sample in read_cases(version):
        is_plain = sample is None and unwrap(item) == (item, None)
        yield item if is_plain else {"item": item, **({} if sample is None else {"sample": sample})}


def fields_of(version: DatasetVersion) -> list[str]:
    """List every field that some item has, in the order in which they first appear."""
    fields: dict[str, None] = {}
    for item, _ in read_cases(version):
        fields.update(dict.fromkeys(item))
    return list(fields)
