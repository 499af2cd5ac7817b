"""Add, disable and remove webhooks, and send an event again."""

import base64
import binascii
import secrets
from collections.abc import Sequence

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from apps.accounts.models import Actor
from apps.accounts.roles import Action
from apps.accounts.services.audit import record
from apps.clients import UrlRefused, check_url
from apps.errors import Invalid, StateError, Unfit
from apps.leases import database_now
from apps.webhooks.models import EVENTS, WebhookDelivery, WebhookEndpoint
from apps.webhooks.signatures import PREFIX
from apps.webhooks.tasks import ring_for_delivery

SECRET_BYTES = 32
URL_LENGTH = 2000


@transaction.atomic
def add_webhook(
    actor: Actor,
    *,
    url: str,
    events: Sequence[str] = EVENTS,
    secret: str | None = None,
    allow_private: bool = False,
) -> tuple[WebhookEndpoint, str]:
    """Register a URL; return its row and the secret, which is not shown again.

    events: final states of runs, all unless given. secret: `whsec_` and the base64 of 16 to 128
    bytes; one is made where none is given. Raises Invalid,
    and Unfit for a URL that the account has registered already.
    """
    account = actor.require(Action.MANAGE)
    url = url.strip()
    try:
        check_url(url)
    except UrlRefused as error:
        raise Invalid(str(error), path="url") from error
    if len(url) > URL_LENGTH:
        raise Invalid(f"A URL has at most {URL_LENGTH} characters.", path="url")
    if not events or not set(events) <= set(EVENTS):
        raise Invalid(f"Events are one or more of {', '.join(EVENTS)}.", path="events")
    secret = new_secret() if secret is None else _checked(secret)
    if WebhookEndpoint.objects.filter(account=account, url=url).exists():
        raise Unfit("A webhook with this URL exists already.", path="url")
    webhook = WebhookEndpoint.objects.create(
        account=account,
        url=url,
        secret=secret,
        events=" ".join(event for event in EVENTS if event in events),
        allow_private=allow_private,
    )
    record(actor, "webhook.add", webhook, after={"url": url, "events": webhook.events})
    return webhook, secret


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def _checked(secret: str) -> str:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not 16 <= len(key) <= 128:
        raise Invalid(f"A secret is {PREFIX} and the base64 of 16 to 128 bytes.", path="secret")
    return secret


@transaction.atomic
def set_webhook_disabled(actor: Actor, webhook: WebhookEndpoint, *, is_disabled: bool) -> None:
    """Disable a webhook, or enable it; what would be sent meanwhile is not sent later."""
    actor.require(Action.MANAGE, webhook.account)
    changed = WebhookEndpoint.objects.filter(pk=webhook.pk, disabled_at__isnull=is_disabled)
    if changed.update(disabled_at=timezone.now() if is_disabled else None):
        record(actor, "webhook.disable" if is_disabled else "webhook.enable", webhook)
    webhook.refresh_from_db(fields=["disabled_at"])


@transaction.atomic
def remove_webhook(actor: Actor, webhook: WebhookEndpoint) -> None:
    """Remove a disabled webhook and the list of its deliveries.

    Raises StateError for one that is not: a run might be ending that is to be told to it.
    """
    actor.require(Action.MANAGE, webhook.account)
    if webhook.disabled_at is None:
        raise StateError("Disable the webhook first.")
    record(actor, "webhook.remove", webhook, before={"url": webhook.url})
    webhook.delete()


@transaction.atomic
def resend(actor: Actor, delivery: WebhookDelivery) -> None:
    """Send an event now, once more or sooner, with all its retries before it.

    Raises StateError while it is being sent, and for a disabled webhook.
    """
    actor.require(Action.MANAGE, delivery.account)
    if delivery.endpoint.disabled_at is not None:
        raise StateError("The webhook is disabled.")
    now = database_now()
    free = WebhookDelivery.objects.filter(Q(lease_until=None) | Q(lease_until__lt=now))
    taken = free.filter(pk=delivery.pk).update(
        state=WebhookDelivery.State.PENDING,
        attempts=0,
        next_attempt_at=now,
        lease_token=None,
        lease_until=None,
        delivered_at=None,
    )
    if not taken:
        raise StateError("This event is being sent right now.")
    record(actor, "webhook.resend", delivery, after={"event": delivery.event_id})
    transaction.on_commit(ring_for_delivery)
