"""Note the deliveries as a run ends, and let a worker or the sweep send them."""

import logging
import threading
from datetime import datetime
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import connection
from django.dispatch import receiver

from apps.evaluations.models import Run
from apps.evaluations.signals import history_purge, run_ending, run_finished, swept
from apps.evaluations.tasks import call_worker
from apps.ids import new_id
from apps.webhooks.delivery import deliver_due, is_due, purge_settled
from apps.webhooks.models import WebhookDelivery, WebhookEndpoint

log = logging.getLogger(__name__)
_delivering = threading.Lock()


@receiver(run_ending)
def note_end(run_id: UUID, state: str, now: datetime, **_: object) -> None:
    """Store the deliveries to the account's webhooks in the transaction that ends a run.

    One query where there are none.
    """
    webhooks = WebhookEndpoint.objects.filter(
        account__in=Run.objects.filter(pk=run_id).values("account"), disabled_at=None
    ).values_list("pk", "account_id", "events")
    wanted = [(pk, account_id) for pk, account_id, events in webhooks if state in events.split()]
    if not wanted:
        return
    event_id = f"evt_{new_id().hex}"
    deliveries = [
        WebhookDelivery(
            account_id=account_id,
            endpoint_id=pk,
            event_id=event_id,
            event=state,
            run_id=run_id,
            created_at=now,
            next_attempt_at=now,
        )
        for pk, account_id in wanted
    ]
    # That a run was told of already must never keep it from ending.
    WebhookDelivery.objects.bulk_create(deliveries, ignore_conflicts=True)


@receiver(run_finished)
def tell_webhooks(**_: object) -> None:
    """Call a worker where deliveries are due after the end of a run."""
    try:
        is_to_tell = is_due()
    except DatabaseError:
        log.exception("Webhooks cannot be looked at; they wait for the sweep")
    else:
        if is_to_tell:
            ring_for_delivery()


def ring_for_delivery() -> None:
    call_worker("apps.webhooks.tasks.deliver")


@receiver(swept)
def deliver(**_: object) -> None:
    """Send what is due in a thread, unless this process is sending already.

    A thread, for neither a queue's worker nor the sweep may wait for somebody else's server: a
    worker that waits would look like a queue that is stuck.
    """
    if is_due() and _delivering.acquire(blocking=False):
        threading.Thread(target=_deliver, name="webhooks", daemon=True).start()


def _deliver() -> None:
    try:
        while deliver_due():
            pass
    except Exception:
        log.exception("Webhooks cannot be told; the next sweep tries again")
    finally:
        connection.close()
        _delivering.release()


@receiver(history_purge)
def purge_history(before: datetime, **_: object) -> bool:
    """Remove some deliveries that were settled before then; return whether there may be more."""
    return purge_settled(before)
