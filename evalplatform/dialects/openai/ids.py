"""The vendor's ids: a UUID in another spelling, read back without a look-up table."""

import re
from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from rest_framework import serializers
from rest_framework.exceptions import ValidationError as FieldError

from apps.evaluations.models import key_in


class IdField(serializers.CharField):
    """A UUID in a spelling of the vendor's; any other text is malformed."""

    default_error_messages = {"malformed": "Not an id of this kind."}

    def to_representation(self, value: Any) -> str:
        raise NotImplementedError

    def to_internal_value(self, data: Any) -> Any:
        raise NotImplementedError

    def conditions(self, name: str, prefix: str = "") -> list[Q]:
        """Make conditions for rows that have this id, the likeliest first; each has an index.

        prefix: the look-up from other rows to these, as `evaluation__`. Raises DRF's
        ValidationError for a text that is no such id.
        """
        return [Q(**{f"{prefix}pk": self.to_internal_value(name)})]


class PrefixedId(IdField):
    """A UUID as a word and its 32 hex digits: eval_0190…."""

    def __init__(self, prefix: str, **kwargs: Any) -> None:
        self.prefix = prefix
        super().__init__(**kwargs)

    def to_representation(self, value: Any) -> str:
        return f"{self.prefix}_{value.hex}"

    def to_internal_value(self, data: Any) -> Any:
        match = re.fullmatch(rf"{self.prefix}_([0-9a-f]{{32}})", str(data))
        if match is None:
            self.fail("malformed")
        return UUID(hex=match[1])


class Imported(IdField):
    """The id of a row that may be imported; an imported row keeps the id that it came with."""

    KEPT = re.compile(r"[!-~]{1,100}")

    def of(self, row: Any) -> str:
        return row.imported_id or self.to_representation(row.pk)

    def fields(self, name: str) -> dict[str, Any]:
        """Return the fields that may hold this id, the likeliest first, with what they hold then.

        Raises DRF's ValidationError for a text that is no such id.
        """
        if self.KEPT.fullmatch(name) is None:
            self.fail("malformed")
        try:
            return {"pk": self.to_internal_value(name), "imported_id": name}
        except FieldError:
            return {"imported_id": name}

    def conditions(self, name: str, prefix: str = "") -> list[Q]:
        return [Q(**{f"{prefix}{field}": value}) for field, value in self.fields(name).items()]

    def names(self, name: str, row: Any) -> bool:
        """Tell whether this is the id of a row. Raises DRF's ValidationError as `fields` does."""
        return any(getattr(row, field) == value for field, value in self.fields(name).items())


class KeptId(Imported, PrefixedId):
    """A prefixed id, or the one that a row was imported with."""


class ResultId(KeptId):
    """The id of a result, whose key is a number; it is shown as a UUID made of that."""

    def of(self, row: Any) -> str:
        return row.imported_id or f"{self.prefix}_{row.shown_hex}"

    def to_internal_value(self, data: Any) -> Any:
        key = key_in(super().to_internal_value(data))
        if key is None:
            self.fail("malformed")
        return key


class Base62Id(IdField):
    """A UUID as a word and 22 letters and digits, its number to the base 62: file-06hVqm…."""

    DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    LENGTH = 22

    def __init__(self, prefix: str, **kwargs: Any) -> None:
        self.prefix = prefix
        super().__init__(**kwargs)

    def to_representation(self, value: Any) -> str:
        number, digits = value.int, []
        for _ in range(self.LENGTH):
            number, digit = divmod(number, 62)
            digits.append(self.DIGITS[digit])
        return f"{self.prefix}-" + "".join(reversed(digits))

    def to_internal_value(self, data: Any) -> Any:
        match = re.fullmatch(rf"{self.prefix}-([0-9A-Za-z]{{{self.LENGTH}}})", str(data))
        number = 0
        for digit in match[1] if match else "":
            number = number * 62 + self.DIGITS.index(digit)
        if match is None or number >= 2**128:
            self.fail("malformed")
        return UUID(int=number)


class FileId(Imported, Base62Id):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__("file", **kwargs)


EVAL_ID = KeptId("eval")
RUN_ID = KeptId("evalrun")
ITEM_ID = ResultId("outputitem")
FILE_ID = FileId()
COMPLETION_ID = Base62Id("chatcmpl")
RESPONSE_ID = PrefixedId("resp")


def first_of(rows: QuerySet[Any], conditions: Iterable[Q]) -> Any:
    """Return the first row that one of the conditions finds, None when none does.

    It makes one query after the other: with both conditions in one SQLite scans the table.
    """
    return next(
        (row for condition in conditions if (row := rows.filter(condition).first()) is not None),
        None,
    )


def any_of(conditions: Iterable[Q]) -> Q:
    """Join the conditions by OR, for rows that another condition finds."""
    return reduce(or_, conditions)
