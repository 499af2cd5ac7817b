"""Deliver events to webhooks: signed, to public addresses, and again until they are taken."""

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from apps.leases import database_now
from apps.strict_json import dump_json
from apps.webhooks.models import WebhookDelivery

if TYPE_CHECKING:
    from apps.webhooks.sending import Attempt

AT_ONCE = 20
PURGED_AT_ONCE = 1_000
DISABLED = "The webhook is disabled."

log = logging.getLogger(__name__)


def is_due() -> bool:
    return WebhookDelivery.objects.due(database_now()).exists()


def deliver_due() -> int:
    """Send at most AT_ONCE of the deliveries that are due, together; return how many were claimed.

    It takes a little over WEBHOOK_TIMEOUT_SECONDS at the longest. Whoever dies meanwhile leaves
    leases that run out, and what was taken already is then sent again, under its id.
    """
    from apps.webhooks.sending import Attempt, send_all  # noqa: PLC0415  aiohttp is slow to load

    now = database_now()
    lease = timedelta(seconds=settings.WEBHOOK_LEASE_SECONDS)
    claimed = WebhookDelivery.objects.claim(AT_ONCE, now, now + lease)
    ready = []
    for delivery in claimed:
        if delivery.endpoint.disabled_at is not None:
            delivery.settle(state=WebhookDelivery.State.FAILED, last_error=DISABLED)
            continue
        try:
            _complete(delivery)
        except ImproperlyConfigured as error:
            _settle(delivery, Attempt(None, str(error)))
        else:
            ready.append(delivery)
    if ready:
        for delivery, answer in zip(ready, send_all(ready), strict=True):
            _settle(delivery, answer)
    return len(claimed)


def purge_settled(before: datetime) -> bool:
    """Remove some settled deliveries made before then; return whether there may be more."""
    settled = WebhookDelivery.objects.exclude(state=WebhookDelivery.State.PENDING)
    old = settled.filter(created_at__lt=before).order_by("pk")
    deliveries = list(old.values_list("pk", flat=True)[:PURGED_AT_ONCE])
    WebhookDelivery.objects.filter(pk__in=deliveries).delete()
    return len(deliveries) == PURGED_AT_ONCE


def _complete(delivery: WebhookDelivery) -> None:
    """Fill in secrets and bodies that are missing, since no database is asked while sending."""
    delivery.endpoint.refresh_from_db(fields=["secret"])
    if not delivery.body:
        delivery.body = dump_json(import_string(settings.WEBHOOK_EVENT)(delivery))


def _settle(delivery: WebhookDelivery, attempt: "Attempt") -> None:
    now = database_now()
    states, pauses = WebhookDelivery.State, settings.WEBHOOK_RETRY_SECONDS
    came = {"body": delivery.body, "last_status": attempt.status, "last_error": attempt.error}
    if attempt.is_taken:
        delivery.settle(state=states.DELIVERED, delivered_at=now, **came)
    elif delivery.attempts > len(pauses):
        delivery.settle(state=states.FAILED, **came)
        log.warning("Event %s is given up: %s", delivery.event_id, attempt.error)
    else:
        pause = timedelta(seconds=pauses[delivery.attempts - 1])
        delivery.settle(next_attempt_at=now + pause, **came)
