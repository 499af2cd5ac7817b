"""Emptying the test database after a test whose transactions were real, in a moment."""

from django.db import DEFAULT_DB_ALIAS, connections, transaction

# Filled by migrating, and changed by no test.
KEPT = {"django_migrations", "django_content_type", "auth_permission"}


def empty_tables() -> None:
    """Delete the rows of the tables that have some.

    Django's own flush empties all tables and fills those above again, which takes longer than most
    tests.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    quote = connection.ops.quote_name
    tables = sorted(set(connection.introspection.table_names()) - KEPT)
    look = " UNION ALL ".join(
        f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {quote(table)})" for table in tables
    )
    with connection.cursor() as cursor:
        cursor.execute(look)
        filled = [table for (table,) in cursor.fetchall()]
    # References between them are looked at when the transaction ends.
    with transaction.atomic(), connection.cursor() as cursor:
        for table in filled:
            cursor.execute(f"DELETE FROM {quote(table)}")
