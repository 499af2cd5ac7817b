"""Events as the vendor's webhooks tell them."""

from typing import Any

from apps.webhooks.models import WebhookDelivery
from evalplatform.dialects.openai.ids import RUN_ID
from evalplatform.dialects.openai.words import RUN_EVENT


def event_shown(delivery: WebhookDelivery) -> dict[str, Any]:
    """The body of a delivery: what `client.webhooks.unwrap` makes an event of."""
    return {
        "id": delivery.event_id,
        "object": "event",
        "created_at": int(delivery.created_at.timestamp()),
        "type": RUN_EVENT[delivery.event],
        "data": {"id": RUN_ID.to_representation(delivery.run_id)},
    }
