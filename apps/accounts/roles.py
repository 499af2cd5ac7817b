"""The one table of roles and what each may do."""

from enum import StrEnum

from django.db.models import TextChoices


class Role(TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    EDITOR = "editor", "Editor"
    ANNOTATOR = "annotator", "Annotator"
    VIEWER = "viewer", "Viewer"


class Action(StrEnum):
    READ = "read"
    ANNOTATE = "annotate"
    EDIT = "edit"
    MANAGE = "manage"  # people, keys, endpoints, deleting for good
    OPEN_ACCOUNT = "open an account"


ALLOWED: dict[str, frozenset[Action]] = {
    Role.OWNER: frozenset(Action),
    Role.ADMIN: frozenset(Action),
    Role.EDITOR: frozenset({Action.READ, Action.ANNOTATE, Action.EDIT}),
    Role.ANNOTATOR: frozenset({Action.READ, Action.ANNOTATE}),
    Role.VIEWER: frozenset({Action.READ}),
}
RANK: dict[str, int] = {role: rank for rank, role in enumerate(reversed(Role.values))}


def weaker(first: str, second: str) -> str:
    """Return the role of the two that may do less: a key never does more than its owner."""
    return min(first, second, key=RANK.__getitem__)
