"""A receiver of webhooks, and somebody who may have them."""

from collections.abc import Iterator

import pytest

from apps.accounts.models import Actor
from tests.factories import make_actor
from tests.webhooks.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.answers.set()
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def actor() -> Actor:
    return make_actor()
