"""Post deliveries to where their webhooks lie, signed, and say what came of it.

Imported when there is something to send: aiohttp takes a tenth of a second to load, and most
processes send nothing.
"""

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
from django.conf import settings

from apps.clients.addresses import AddressRefused
from apps.clients.streamed_calls import open_connector
from apps.webhooks.models import WebhookDelivery
from apps.webhooks.signatures import sign

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """The outcome of a delivery: the status that was answered, or None and why there was none."""

    status: int | None
    error: str = ""

    @property
    def is_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def send_all(deliveries: Sequence[WebhookDelivery]) -> list[Attempt]:
    """Send each delivery once, all together; no database is asked meanwhile."""
    return asyncio.run(_send_all(deliveries))


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
