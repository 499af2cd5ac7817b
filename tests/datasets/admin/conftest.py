"""Sign staff in to the admin."""

import pytest

from apps.accounts.roles import Role
from tests.factories import make_actor, make_user


@pytest.fixture
def editor(client):
    """Staff with the role editor, signed in."""
    actor = make_actor(Role.EDITOR, user=make_user(is_staff=True))
    client.force_login(actor.user)
    return actor
