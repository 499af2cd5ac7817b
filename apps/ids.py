"""Time-ordered primary keys."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """Make a UUIDv7, which sorts after all earlier ones of this process, even of one millisecond.

    Source: RFC 9562 section 6.2, method 1.
    """
    return uuid7()
