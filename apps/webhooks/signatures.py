"""Sign what is delivered, so that a receiver knows that it is ours."""

import base64
import hashlib
import hmac

PREFIX = "whsec_"  # of a secret


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
