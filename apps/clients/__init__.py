"""Clients of models: an HTTP endpoint, or one of the models that are built in."""

from apps.clients.adapting import AdaptingClient, Lesson, Lessons
from apps.clients.addresses import UrlRefused, check_url
from apps.clients.base import (
    BUDGET,
    CallFailed,
    Client,
    GivenUp,
    Limiter,
    Refusal,
    Remaining,
    Reply,
    Stopped,
    Unlimited,
    Usage,
)
from apps.clients.builtin import BUILT_IN, Echo, Majority, Nearest, is_built_in
from apps.clients.chat import ChatClient, no_budget
from apps.clients.extras import BadExtra, Extras
from apps.clients.presets import Preset
from apps.clients.retries import RetryPolicy

__all__ = [
    "BUDGET",
    "BUILT_IN",
    "AdaptingClient",
    "BadExtra",
    "CallFailed",
    "ChatClient",
    "Client",
    "Echo",
    "Extras",
    "GivenUp",
    "Lesson",
    "Lessons",
    "Limiter",
    "Majority",
    "Nearest",
    "Preset",
    "Refusal",
    "Remaining",
    "Reply",
    "RetryPolicy",
    "Stopped",
    "Unlimited",
    "UrlRefused",
    "Usage",
    "check_url",
    "is_built_in",
    "no_budget",
]
