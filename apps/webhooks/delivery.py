"""Deliver events to webhooks: signed, to public addresses, and again until they are taken."""

import asyncio
import base64
import hashlib
import hmac
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import aiohttp
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from apps.clients.addresses import AddressRefused, open_connector
from apps.leases import database_now
from apps.strict_json import dump_json
from apps.webhooks.models import WebhookDelivery

AT_ONCE = 20
PURGED_AT_ONCE = 1_000
PREFIX = "whsec_"
DISABLED = "The webhook is disabled."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """The outcome of a delivery: the status that was answered, or None and why there was none."""

    status: int | None
    error: str = ""

    @property
    def is_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def is_due() -> bool:
    return WebhookDelivery.objects.due(database_now()).exists()


def deliver_due() -> int:
    """Send at most AT_ONCE of the deliveries that are due, together; return how many were claimed.

    It takes a little over WEBHOOK_TIMEOUT_SECONDS at the longest. Whoever dies meanwhile leaves
    leases that run out, and what was taken already is then sent again, under its id.
    """
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
        for delivery, answer in zip(ready, asyncio.run(_send_all(ready)), strict=True):
            _settle(delivery, answer)
    return len(claimed)


def purge_settled(before: datetime) -> bool:
    """Remove some settled deliveries made before then; return whether there may be more."""
    settled = WebhookDelivery.objects.exclude(state=WebhookDelivery.State.PENDING)
    old = settled.filter(created_at__lt=before).order_by("pk")
    deliveries = list(old.values_list("pk", flat=True)[:PURGED_AT_ONCE])
    WebhookDelivery.objects.filter(pk__in=deliveries).delete()
    return len(deliveries) == PURGED_AT_ONCE


def sign(secret: str, event_id: str, timestamp: int, body: str) -> dict[str, str]:
    """Make the headers by which a receiver knows that the body is ours and recent.

    Source: Standard Webhooks 1.0.0, symmetric signatures.
    """
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = hmac.digest(key, f"{event_id}.{timestamp}.{body}".encode(), hashlib.sha256)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


def _complete(delivery: WebhookDelivery) -> None:
    """Fill in secrets and bodies that are missing, since no database is asked while sending."""
    delivery.endpoint.refresh_from_db(fields=["secret"])
    if not delivery.body:
        delivery.body = dump_json(import_string(settings.WEBHOOK_EVENT)(delivery))


def _settle(delivery: WebhookDelivery, attempt: Attempt) -> None:
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


async def _send_all(deliveries: Sequence[WebhookDelivery]) -> list[Attempt]:
    return await asyncio.gather(*map(_send, deliveries))


async def _send(delivery: WebhookDelivery) -> Attempt:
    endpoint = delivery.endpoint
    headers = sign(endpoint.secret, delivery.event_id, int(time.time()), delivery.body)
    headers |= {"content-type": "application/json", "user-agent": "evalplatform-webhooks"}
    try:
        async with (
            aiohttp.ClientSession(
                connector=open_connector(allow_private=endpoint.allow_private),
                timeout=aiohttp.ClientTimeout(total=settings.WEBHOOK_TIMEOUT_SECONDS),
            ) as session,
            session.post(
                endpoint.url, data=delivery.body.encode(), headers=headers, allow_redirects=False
            ) as response,
        ):
            # Its body is nobody's business here: it could be a page of a private network.
            status = response.status
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Attempt(None, _reason(error))
    except Exception:
        log.exception("Event %s cannot be sent", delivery.event_id)
        return Attempt(None, "It could not be sent.")
    attempt = Attempt(status)
    return attempt if attempt.is_taken else Attempt(status, f"It answered {status}.")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"No answer within {settings.WEBHOOK_TIMEOUT_SECONDS:g} seconds."
    if isinstance(error, aiohttp.InvalidURL):  # an address like 127.1 or 017700000001
        return "The URL does not spell its address as usual."
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "The name does not resolve."
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "It shows a certificate that cannot be trusted."
    if isinstance(error, aiohttp.ClientSSLError):
        return "The TLS handshake failed."
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, AddressRefused):
            return "The address is not public, which it has to be here."
        reason = os.strerror(error.errno).lower() if error.errno else "no connection"
        return f"It could not be reached: {reason}."
    return "The connection broke, or the answer is not HTTP."
