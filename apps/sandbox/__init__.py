"""Run untrusted Python graders apart from the server, under limits and without a way out."""

from apps.sandbox.base import CallResult, Case, Limits, Refusal, Runner
from apps.sandbox.choose import configure, find_runner, limits, why_no_runner

__all__ = [
    "CallResult",
    "Case",
    "Limits",
    "Refusal",
    "Runner",
    "configure",
    "find_runner",
    "limits",
    "why_no_runner",
]
