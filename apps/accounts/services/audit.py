"""Record who changed what, with its values before and after."""

import json
from typing import Any

from django.db import models

from apps.accounts.models import Account, Actor, AuditEvent


def record(
    actor: Actor | None,
    action: str,
    target: models.Model,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Add an audit event, as part of the caller's transaction."""
    account = target if isinstance(target, Account) else getattr(target, "account", None)
    AuditEvent.objects.create(
        account=account,
        user=actor.user if actor else None,
        action=action,
        object_type=target._meta.model_name or "",
        object_id=str(target.pk),
        before=json.dumps(before, default=str) if before else "",
        after=json.dumps(after, default=str) if after else "",
        request_id=actor.request_id if actor else "",
    )
