"""Clients of models: an HTTP endpoint, or one of the models that are built in."""

from apps.evaluations.clients.addresses import UrlRefused, check_url
from apps.evaluations.clients.base import (
    BUDGET,
    CallFailed,
    Client,
    Limiter,
    Reply,
    Stopped,
    Unlimited,
    Usage,
)
from apps.evaluations.clients.builtin import BUILT_IN, Echo, Majority, Nearest
from apps.evaluations.clients.chat import ChatClient, unpaid
from apps.evaluations.clients.presets import Preset
from apps.evaluations.clients.retries import Patience

__all__ = [
    "BUDGET",
    "BUILT_IN",
    "CallFailed",
    "ChatClient",
    "Client",
    "Echo",
    "Limiter",
    "Majority",
    "Nearest",
    "Patience",
    "Preset",
    "Reply",
    "Stopped",
    "Unlimited",
    "UrlRefused",
    "Usage",
    "check_url",
    "unpaid",
]
