"""Write webhook events in the vendor's shape."""

from typing import Any

from apps.webhooks.models import WebhookDelivery
from evalplatform.dialects.openai.ids import RUN_ID
from evalplatform.dialects.openai.words import RUN_EVENT


def event_shown(delivery: WebhookDelivery) -> dict[str, Any]:
    """Make the body of a delivery, which `client.webhooks.unwrap` reads."""
    return {
        "id": delivery.event_id,
        "object": "event",
        "created_at": int(delivery.created_at.timestamp()),
        "type": RUN_EVENT[delivery.event],
        "data": {"id": RUN_ID.to_representation(delivery.run_id)},
    }
