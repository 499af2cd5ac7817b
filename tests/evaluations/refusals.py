"""Collect what services refuse and what they record."""

import pytest

from apps.accounts.models import AuditEvent
from apps.errors import Refusal, dotted


def refused(call, path):
    with pytest.raises(Refusal) as refusal:
        call()
    assert dotted(refusal.value.problems[0].path) == path
    return refusal.value


def actions():
    return list(AuditEvent.objects.order_by("id").values_list("action", flat=True))
