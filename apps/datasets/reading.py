"""Find the versions of datasets, and read their cases."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db.models import F

from apps.datasets.models import Dataset, DatasetVersion
from apps.errors import Unfit
from apps.strict_json import dump_json, parse_json

CASES_AT_ONCE = 1_000


def find_version(account_id: UUID, name: str, num: int | None = None) -> DatasetVersion:
    """Return version `num`, or the newest, of the account's unarchived dataset of this name.

    Raises ObjectDoesNotExist when there is none, Unfit when several datasets have the name.
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
    Raises Unfit when the dataset names no label field.
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
