"""Read the one form of a view's SQL that is loaded: columns of one dataset, or its first rows.

Source: docs/contracts/spice.md, section 20.
"""

from dataclasses import dataclass
from typing import Any

MAX_SQL = 10_000
FORM = (
    "only SELECT * or columns FROM one dataset of the file, with or without LIMIT n, can be loaded"
)


class BadView(ValueError):
    """The SQL has another form, or is none."""


@dataclass(frozen=True)
class Selection:
    """The part of a dataset's rows that a view shows.

    table: the dataset's name as it is written, and whether its case counts. columns: None for all.
    limit: None for all rows.
    """

    table: tuple[str, bool]
    columns: tuple[str, ...] | None
    limit: int | None


def read_selection(sql: str) -> Selection:
    """Read a view's SQL. Raises BadView."""
    # It costs a tenth of a second to import, and few spicepods have views.
    import sqlglot  # noqa: PLC0415  as the comment says
    from sqlglot import exp  # noqa: PLC0415  as above

    if len(sql) > MAX_SQL:
        raise BadView(f"its SQL is longer than {MAX_SQL:,} characters")
    try:
        statements = sqlglot.parse(sql)
    except (sqlglot.errors.SqlglotError, RecursionError):
        raise BadView(f"its SQL cannot be read: {FORM}") from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        raise BadView(f"its SQL is no single SELECT: {FORM}")
    select = statements[0]
    _only(select, {"expressions", "from_", "limit"})
    source = select.args["from_"].this if select.args.get("from_") else None
    if not isinstance(source, exp.Table) or not isinstance(source.this, exp.Identifier):
        raise BadView(f"it selects from no dataset: {FORM}")
    _only(source, {"this", "db", "catalog"})
    limit = select.args.get("limit")
    return Selection(
        (
            ".".join(part.name for part in source.parts),
            any(part.args.get("quoted") for part in source.parts),
        ),
        _columns(select.expressions, exp),
        None if limit is None else _limit(limit, exp),
    )


def _only(node: Any, allowed: set[str]) -> None:
    for name, value in node.args.items():
        if value and name not in allowed:
            raise BadView(f"its SQL has {name.strip('_').upper()}: {FORM}")


def _columns(expressions: list[Any], exp: Any) -> tuple[str, ...] | None:
    if len(expressions) == 1 and isinstance(expressions[0], exp.Star):
        _only(expressions[0], set())
        return None
    names = []
    for column in expressions:
        if not isinstance(column, exp.Column) or not isinstance(column.this, exp.Identifier):
            raise BadView(f"its SQL has the expression {column.sql()[:60]!r}: {FORM}")
        _only(column, {"this"})
        names.append(column.this.name)
    if not names or len(set(names)) < len(names):
        raise BadView(f"its SQL names a column twice, or none: {FORM}")
    return tuple(names)


def _limit(limit: Any, exp: Any) -> int:
    count = limit.args.get("expression")
    if isinstance(limit, exp.Limit) and isinstance(count, exp.Literal) and not count.is_string:
        _only(limit, {"expression"})
        if count.this.isdigit() and len(count.this) <= 18:
            return int(count.this)
    raise BadView(f"its LIMIT is no whole number: {FORM}")
