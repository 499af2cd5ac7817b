"""Give the room of what was purged back to the disk, on SQLite; PostgreSQL does so by itself."""

import time

from django.db import connection

SPARE_PAGES = 1_000  # free ones stay in the file for what is stored next
# Moved in one transaction, for which other writers wait.
PAGES_AT_ONCE = 250
INCREMENTAL = 2


def shrink_database(seconds: float | None = None) -> int:
    """Cut free pages off the file and return how many; begin no piece after so many seconds.

    0 where there is none to cut, and for files that cannot shrink (see `can_shrink`).
    """
    if connection.vendor != "sqlite" or not can_shrink():
        return 0
    ends_at = None if seconds is None else time.monotonic() + seconds
    before = free = _pragma("freelist_count")
    while free > SPARE_PAGES and (ends_at is None or time.monotonic() < ends_at):
        with connection.cursor() as cursor:
            # A page is cut for each row that is fetched.
            cursor.execute(
                f"PRAGMA incremental_vacuum({min(PAGES_AT_ONCE, free - SPARE_PAGES)})"
            ).fetchall()
        left = _pragma("freelist_count")
        if left >= free:
            break  # somebody frees pages as fast
        free = left
    return max(0, before - free)


def can_shrink() -> bool:
    """Tell whether pages can be cut off the file; one made before that was set is rewritten."""
    return connection.vendor != "sqlite" or _pragma("auto_vacuum") == INCREMENTAL


def rewrite_database() -> None:
    """Write SQLite's file anew, without free pages, so that it can shrink from now on.

    It takes as much room again meanwhile, and whoever else has the file open waits. Raises
    OperationalError while others write.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        cursor.execute("VACUUM")


def _pragma(name: str) -> int:
    with connection.cursor() as cursor:
        return cursor.execute(f"PRAGMA {name}").fetchone()[0]
