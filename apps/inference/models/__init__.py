"""The tables of inference: model servers, their models, slots and paces, and the answers kept."""

from apps.inference.models.completions import CompletionTag, StoredCompletion
from apps.inference.models.endpoints import EndpointSlot, ModelEndpoint, ServedModel
from apps.inference.models.paces import EndpointPace
from apps.inference.models.quirks import LearnedQuirk

__all__ = [
    "CompletionTag",
    "EndpointPace",
    "EndpointSlot",
    "LearnedQuirk",
    "ModelEndpoint",
    "ServedModel",
    "StoredCompletion",
]
